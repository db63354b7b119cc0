//! The same cases over both stores, and what only one of them can suffer.
//!
//! Tests with etcd start a real one on loopback (Debian's `etcd-server`); where
//! it is not installed they say so and pass.

mod cases;
mod embedded;
mod etcd;
mod etcd_server;
