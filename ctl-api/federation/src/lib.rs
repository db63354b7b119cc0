//! The reference controller: what operators want, who may know whom, and what
//! each gateway should therefore hold.
//!
//! ```text
//!   files --> intent --> allocation --> desired --> gateways
//!                |           |
//!                +-- store --+
//! ```
//!
//! - [`intent`]: the kinds of objects, their files, their rules, their difference
//! - [`allocation`]: numbers that clusters give themselves
//! - [`desired`]: what each gateway should hold
//! - [`gateway`]: the client of one gateway, over the control API
//! - [`store`]: intent and allocations, kept and shared: a file or etcd
//! - [`api`]: the intent API, over the store
//! - [`numbers`]: AS numbers, route targets, route distinguishers, ranges; `text`:
//!   types that are written as one text

pub mod allocation;
pub mod api;
pub mod desired;
pub mod gateway;
pub mod intent;
pub mod numbers;
pub mod store;
mod text;
