//! The command line of Tieline.

fn main() {}
