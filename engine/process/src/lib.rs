//! What Tieline's programs are as processes.
//!
//! - [`essential`]: threads and tasks that a program is nothing without

pub mod essential;
