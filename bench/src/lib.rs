//! Benchmarks of the engine, and the inputs that they share.
//!
//! - [`random`]: reproducible random numbers
//! - [`routes`]: routing tables of a realistic shape

pub mod random;
pub mod routes;
