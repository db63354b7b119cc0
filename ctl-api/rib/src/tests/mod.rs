//! Behaviour of the RIB as a whole.

mod controllers;
mod history;
mod invariants;
mod meaning;
mod objects;
mod scenarios;
mod world;
