//! Decapsulation.
