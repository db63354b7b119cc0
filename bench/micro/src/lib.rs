//! Benchmarks of the engine in memory, and the inputs that they share. This crate
//! needs the engine alone, so that it is soon built, optimised, where instructions
//! are counted.
//!
//! - [`pipeline`]: a gateway in memory, fed with flows
//! - [`workers`]: several workers at once, each on its own core
//! - [`operations`]: the parts of the engine, each alone
//! - [`callgrind`]: the counting of instructions
//! - [`random`]: reproducible random numbers
//! - [`routes`]: routing tables of a realistic shape

pub mod callgrind;
pub mod operations;
pub mod pipeline;
pub mod random;
pub mod routes;
pub mod workers;
