//! What a peer sends after its session stands.
#![cfg_attr(fuzzing, no_main)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tieline_bgp_fuzz::session(data));

// Without the fuzzer's runtime there is nothing to run.
#[cfg(not(fuzzing))]
fn main() {}
