//! Live state of another process.
#![cfg_attr(fuzzing, no_main)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tieline_fuzz::transfer(data));

// Without the fuzzer's runtime there is nothing to run.
#[cfg(not(fuzzing))]
fn main() {}
