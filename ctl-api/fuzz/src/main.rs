//! Fuzzes one target: `TIELINE_FUZZ_TARGET=NAME fuzz [OPTION...] [FOLDER...]`. The
//! options are libFuzzer's, and `main` is libFuzzer's too: it looks at nothing but
//! its own options, so the name comes from the environment. `scripts/fuzz` builds
//! and starts this.
#![no_main]

use std::sync::LazyLock;

use tieline_fuzz::{TARGETS, target};

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TIELINE_FUZZ_TARGET").unwrap_or_default();
    match target(&wanted) {
        Some(target) => target.run,
        None => {
            let names = TARGETS.map(|target| target.name).join(" ");
            eprintln!("fuzz: TIELINE_FUZZ_TARGET is '{wanted}', which is no target; there are: {names}");
            std::process::exit(2);
        }
    }
});

libfuzzer_sys::fuzz_target!(
    init: {
        LazyLock::force(&RUN);
    },
    |data: &[u8]| RUN(data)
);
