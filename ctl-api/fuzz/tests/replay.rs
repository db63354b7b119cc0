//! Replays what fuzzing started from and what it has kept, for each target.

use std::collections::BTreeSet;

use tieline_fuzz::{TARGETS, corpus, seeds, target};

/// Runs the seeds and the kept inputs of a target. A panic shows the input, as
/// the line that it is in the files of the corpus.
fn replay(name: &str) {
    let target = target(name).expect("a target has the name");
    let seeds = seeds::all().into_iter().filter(|seed| seed.target == name);
    let mut inputs: Vec<Vec<u8>> = seeds.map(|seed| seed.bytes).collect();
    assert!(!inputs.is_empty(), "fuzzing {name} has nothing to start from");
    for folder in corpus::FOLDERS {
        let kept = corpus::read(&corpus::file(folder, name));
        inputs.extend(kept.unwrap_or_else(|error| panic!("{error}")));
    }
    for input in inputs {
        let run = || (target.run)(&input);
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("{name} fails on the input {}", corpus::write(vec![input]));
            std::panic::resume_unwind(panic);
        }
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replays! { ethernet_ip decap icmp arp_nd mss pipeline transfer bgp_update bgp_session }

#[test]
fn every_target_is_replayed_and_every_kept_input_has_a_target() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(BTreeSet::from_iter(REPLAYED.iter().copied()), names);
    for seed in seeds::all() {
        assert!(names.contains(seed.target), "seed {} of {}", seed.name, seed.target);
    }
    for name in &names {
        let kept = corpus::read(&corpus::file("corpus", name));
        assert!(kept.is_ok_and(|kept| !kept.is_empty()), "nothing is kept for {name}");
    }
    for folder in corpus::FOLDERS {
        let some = corpus::file(folder, "any");
        let Ok(entries) = some.parent().expect("files lie in folders").read_dir() else { continue };
        for entry in entries {
            let file = entry.expect("a folder of the source").file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".hex"));
            assert!(name.is_some_and(|name| names.contains(name)), "{folder} has {file:?}");
        }
    }
}

#[test]
fn every_seed_of_frames_parses() {
    for seed in seeds::all().iter().filter(|seed| seed.target == "ethernet_ip") {
        assert!(tieline_engine::packet::parse::parse_ethernet(&seed.bytes).is_ok(), "{}", seed.name);
    }
}
