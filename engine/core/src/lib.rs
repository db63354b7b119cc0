//! The packet engine of Tieline.
//!
//! Poll-mode workers take bursts of packets from their receive queues, run
//! them through the pipeline, and send what comes out. One writer outside the
//! workers changes the tables and publishes them. The engine knows nothing of
//! gRPC, and this crate nothing of DPDK: any [`io::Io`] drives it.
//!
//! - [`engine`]: the engine from outside: start, tables, ports, counters
//! - [`worker`]: the threads that move packets
//! - [`pipeline`]: the way of a packet, one file a stage
//! - [`packet`]: buffers, metadata, and the protocols' bytes
//! - [`tables`]: what workers read: FIBs, next hops, interfaces, neighbours
//! - [`policy`]: security groups
//! - [`session`]: what workers remember of flows
//! - [`local`]: what the engine says itself: ARP, ND, rate limits
//! - [`io`]: where packets come from and go to
//! - [`stats`]: what is counted
//! - [`transfer`]: live state on its way to another process
//! - [`testbed`]: an engine in the hand, for tests, fuzzers and benchmarks
//! - [`cycles`]: the processor's clock
//! - [`types`], [`drop_reason`]: the vocabulary

pub mod cycles;
pub mod drop_reason;
pub mod engine;
mod huge_pages;
pub mod io;
pub mod local;
pub mod packet;
pub mod pipeline;
pub mod policy;
mod prefetch;
pub mod session;
pub mod stats;
pub mod tables;
pub mod testbed;
pub mod transfer;
pub mod types;
pub mod worker;

pub use drop_reason::DropReason;
