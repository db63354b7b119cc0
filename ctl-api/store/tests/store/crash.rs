//! Processes that are killed while they write.
//!
//! The test program runs itself again as the process that is killed. Writer
//! and judge make the same history from the same seed; the writer says after
//! each write how many it has made.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use tieline_store::{Opened, Store};

use crate::history::{Random, Step};
use crate::support::{Place, State, small, state_of};

/// Where the writer finds its directory, its seed, and how many steps of the
/// history have been made.
const PATH: &str = "TIELINE_STORE_CRASH_PATH";
const SEED: &str = "TIELINE_STORE_CRASH_SEED";
const DONE: &str = "TIELINE_STORE_CRASH_DONE";

const ROUNDS: u64 = 60;

/// Not a test by itself: what the killed process does.
#[test]
fn writer() {
    let (Ok(path), Ok(seed), Ok(done)) = (std::env::var(PATH), std::env::var(SEED), std::env::var(DONE))
    else {
        return;
    };
    let done: u64 = done.parse().expect("a number");
    let mut random = Random(seed.parse().expect("a number"));
    for _ in 0..done {
        Step::random(&mut random);
    }
    let (store, _) = Store::open(path.as_ref(), small()).expect("it can be opened");
    let mut said = std::io::stderr();
    // The judge kills this process; the bound is for a judge that is gone.
    for number in done..done + 200_000 {
        let step = Step::random(&mut random);
        match &step {
            Step::Write(_) => store.write(&mut step.changes()).expect("there is space"),
            Step::Replace(_) => store.replace_all(&mut step.changes()).expect("there is space"),
            Step::Sync => store.sync().expect("the disk works"),
        }
        if writeln!(said, "stored {}", number + 1).is_err() {
            return;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let place = Place::new("crash");
    let path = place.path("state");
    let seed = 42;
    // The history from its beginning, and the state that it has led to.
    let mut random = Random(seed);
    let mut state = State::new();
    let mut done = 0;
    let mut in_flight = 0;
    let mut when = Random(std::process::id().into());
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash::writer", "--nocapture", "--test-threads=1"])
            .env(PATH, &path)
            .env(SEED, seed.to_string())
            .env(DONE, done.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let (writes, first_write) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = None;
            let mut line = String::new();
            while said.read_line(&mut line).is_ok_and(|length| length > 0) {
                // The last line may be cut off; what counts ends in a newline.
                if line.ends_with('\n')
                    && let Some(number) = line.trim().strip_prefix("stored ")
                {
                    acknowledged = number.parse::<u64>().ok();
                    // Nobody listens after the first.
                    let _ = writes.send(());
                }
                line.clear();
            }
            acknowledged
        });
        // In every second round it is killed wherever it is, the start included.
        if round % 2 == 0 {
            first_write.recv_timeout(Duration::from_secs(30)).expect("it writes");
        }
        std::thread::sleep(Duration::from_micros(when.below(120_000)));
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
        let acknowledged = reader.join().expect("no panic").unwrap_or(done);
        while done < acknowledged {
            Step::random(&mut random).apply(&mut state);
            done += 1;
        }
        let Ok((store, opened)) = Store::open(&path, small()) else {
            panic!("round {round}: it cannot be opened");
        };
        let restored =
            matches!(opened, Opened::Restored { complete: true, migrated_from: None, salvaged: None });
        assert!(restored || (done == 0 && opened == Opened::Fresh), "round {round}: {opened:?}");
        let found = state_of(&store).expect("whole");
        if found != state {
            // Then it has the one write that was not acknowledged yet.
            Step::random(&mut random).apply(&mut state);
            done += 1;
            in_flight += 1;
            assert!(found == state, "round {round}: neither the state at change {} nor at {done}", done - 1);
        }
    }
    eprintln!("{ROUNDS} kills, {done} steps, {in_flight} times with the write in flight");
    assert!(done > ROUNDS, "the writers hardly wrote: {done} steps");
}
