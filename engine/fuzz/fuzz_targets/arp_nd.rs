//! ARP and Neighbour Discovery messages.
#![cfg_attr(fuzzing, no_main)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tieline_fuzz::arp_nd(data));

// Without the fuzzer's runtime there is nothing to run.
#[cfg(not(fuzzing))]
fn main() {}
