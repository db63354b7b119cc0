//! The whole pipeline.
#![cfg_attr(fuzzing, no_main)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tieline_fuzz::pipeline::pipeline(data));

// Without the fuzzer's runtime there is nothing to run.
#[cfg(not(fuzzing))]
fn main() {}
