//! Field positions and protocol numbers.
