//! Benchmarks of the engine and of the control API, and the inputs that they share.
//!
//! - [`pipeline`]: a gateway in memory, fed with flows
//! - [`workers`]: several workers at once, each on its own core
//! - [`operations`]: the parts of the engine, each alone
//! - [`callgrind`]: the counting of instructions
//! - [`daemon`], [`process`]: the programs under measurement; [`figures`]: what is measured
//! - [`pcap`]: capture files
//! - [`random`]: reproducible random numbers
//! - [`routes`]: routing tables of a realistic shape
//! - [`session`]: the daemon driven as a controller does

pub mod callgrind;
pub mod daemon;
pub mod figures;
pub mod operations;
pub mod pcap;
pub mod pipeline;
pub mod process;
pub mod random;
pub mod routes;
pub mod session;
pub mod workers;
