//! The packet engine of Tieline.
//!
//! Poll-mode workers take bursts of packets from their receive queues, run
//! them through the pipeline, and send what comes out. One writer outside the
//! workers changes the tables and publishes them. The engine knows nothing of
//! gRPC, and this crate nothing of DPDK: any [`io::Io`] drives it.
//!
//! - [`packet`]: buffers, metadata, and the protocols' bytes
//! - [`tables`]: what workers read: FIBs, next hops, interfaces, neighbours
//! - [`policy`]: security groups
//! - [`session`]: what workers remember of flows
//! - [`worker`]: what runs on the pinned threads
//! - [`io`]: where packets come from and go to
//! - [`types`], [`drop_reason`]: the vocabulary

pub mod drop_reason;
pub mod io;
pub mod packet;
pub mod policy;
pub mod session;
pub mod tables;
pub mod types;
pub mod worker;

pub use drop_reason::DropReason;
