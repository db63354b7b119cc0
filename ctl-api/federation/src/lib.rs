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
//! - [`programs`]: what gateways are told of it, in the words of their API
//! - [`gateway`]: the client of one gateway
//! - [`controller`]: what runs: store, gateways and BGP together
//! - [`audit`]: what is wanted compared with what is there
//! - [`metrics`]: its numbers for Prometheus
//! - [`exchange`]: who of its BGP peers a cluster believes about what, and what it tells them
//! - [`routes`]: between BGP and the gateways
//! - [`store`]: intent and allocations, kept and shared: a file or etcd
//! - [`api`]: the APIs: the intent, over the store, and the view of what runs
//! - [`numbers`]: AS numbers, route targets, route distinguishers, ranges; `text`:
//!   types that are written as one text

pub mod allocation;
pub mod api;
pub mod audit;
pub mod controller;
pub mod desired;
pub mod exchange;
pub mod gateway;
pub mod intent;
pub mod metrics;
pub mod numbers;
pub mod programs;
pub mod routes;
pub mod store;
mod text;
