//! The body of an UPDATE message.
#![cfg_attr(fuzzing, no_main)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tieline_bgp_fuzz::update(data));

// Without the fuzzer's runtime there is nothing to run.
#[cfg(not(fuzzing))]
fn main() {}
