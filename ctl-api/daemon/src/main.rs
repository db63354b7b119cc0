//! The Tieline daemon.

fn main() {}
