//! Behaviour of the RIB as a whole.

mod bytes;
mod controllers;
mod history;
mod invariants;
mod meaning;
mod objects;
mod scenarios;
mod world;
