//! The Tieline daemon: the packet engine on DPDK, programmed over gRPC.
//!
//! - `args`, `config`: what the operator asks for
//! - `life`, `start`, `begin`, `api`: a daemon from its start to its end;
//!   the engine and DPDK; the state that it begins with; the API's threads
//! - `process`: what it may do
//! - `identity`: what sets this gateway apart
//! - `socket`: the Unix socket, one daemon a path
//! - `gateway`, `device_ports`: what is declared, the tables, the devices
//! - `control`: the thread that carries out what the API asks for; `admission`,
//!   `batch`, `sessions`: its parts without clocks and threads
//! - `acknowledge`, `keeper`, `persist`: the threads behind it, and the
//!   store
//! - `changes`, `events`, `problems`: what watchers hear of
//! - `replies`, `shares`: what a session may take: acknowledgements that it does
//!   not read, and batches that wait
//! - `service`, `stats`: the gRPC services
//! - `doors`: where clients come in; `rights`: what each may declare
//! - `other_process`: whether another daemon still runs; `upgrade`: a new daemon takes over from the one that runs
//!
//! The program is [`run`] with its [`Args`], and nothing else. Beside them,
//! [`frame`] is public: what daemons say to each other when one takes over.
//!
//! Start: configuration, socket, DPDK, workers, and all other threads, so that
//! none of them is born on a worker's core; then the last state, or that of the
//! daemon that is taken over from; and last the doors.

mod acknowledge;
mod admission;
mod api;
mod args;
mod batch;
mod begin;
mod changes;
mod config;
mod control;
mod device_ports;
mod doors;
mod events;
pub mod frame;
mod gateway;
mod identity;
mod keeper;
mod life;
mod links;
mod other_process;
mod persist;
mod problems;
mod process;
mod replies;
mod rights;
mod service;
mod sessions;
mod shares;
#[cfg(test)]
mod simulation;
mod socket;
mod start;
mod stats;
mod upgrade;

pub use args::Args;
pub use life::run;
