//! Speakers in a network that a test owns: time, delays, losses.

mod convergence;
mod network;
mod restart;
mod rules;
