//! What Tieline's programs are as processes.
//!
//! - [`essential`]: threads and tasks that a program is nothing without
//! - [`privileges`]: what a process may do, once it has begun
//! - [`system_calls`]: which system calls it, and its workers, may make

pub mod essential;
pub mod privileges;
pub mod system_calls;
