//! Benchmarks of the programs, and what they share. Those of the engine alone are
//! in `bench/micro`.
//!
//! - [`daemon`], [`process`]: the programs under measurement; [`figures`]: what is measured
//! - [`pcap`]: capture files
//! - [`session`]: the daemon driven as a controller does

pub mod daemon;
pub mod figures;
pub mod pcap;
pub mod process;
pub mod session;
