//! The library of the controller, from outside: its client of a gateway, its
//! stores, and a whole controller. [`fake`] is a gateway for all of them.

mod controller;
mod fake;
mod gateway;
mod place;
mod store;
