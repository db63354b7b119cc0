//! A controller whose store is damaged starts, says so, and goes on with a new one.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::{CLUSTERS, Place};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(look: impl Fn() -> Option<String>) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_controller_with_a_damaged_store_starts_and_names_it() {
    let place = Place::new();
    let clusters = CLUSTERS
        .replace("spec: {asn: 64512,", "spec: {asn: 64512, controllers: [{name: c1, address: 198.18.0.11}],");
    place.write("clusters.yaml", &clusters);
    place.run("--store s.redb apply -f clusters.yaml", 0);
    let path = place.path().join("s.redb");
    let mut bytes = std::fs::read(&path).expect("it is there");
    // Whatever comes after the magic number.
    bytes[9..64].fill(0xff);
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..64].fill(0xa5);
    }
    std::fs::write(&path, bytes).expect("written");
    // A command names it, and leaves it where it is.
    let (_, refused) = place.run("--store s.redb get", 1);
    assert!(refused.contains("s.redb") && !refused.contains("panicked"), "{refused}");
    let run = "--store s.redb run --cluster east --controller c1 --socket api.sock";
    let _controller = Running(place.command(run).spawn().expect("it runs"));
    let status = |code: i32| {
        let output = place
            .command(&format!("--server unix:{} status", place.path().join("api.sock").display()))
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code() == Some(code)).then_some(text)
    };
    let waiting = eventually(|| status(3).filter(|text| text.contains("s.redb.damaged-")));
    assert!(waiting.contains("no cluster east"), "{waiting}");
    place
        .run(&format!("--server unix:{} apply -f clusters.yaml", place.path().join("api.sock").display()), 0);
    let problems = eventually(|| status(0).filter(|text| text.contains("s.redb.damaged-")));
    assert!(problems.contains("store"), "{problems}");
}
