//! Benchmarks of the engine, and the inputs that they share.
//!
//! - [`pipeline`]: a gateway in memory, fed with flows
//! - [`random`]: reproducible random numbers
//! - [`routes`]: routing tables of a realistic shape

pub mod pipeline;
pub mod random;
pub mod routes;
