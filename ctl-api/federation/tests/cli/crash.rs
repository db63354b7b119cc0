//! `kill -9` in the middle of an apply leaves the intent before or after it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Place;

/// A cluster with many networks of one colour.
fn intent(colour: &str) -> String {
    let mut text =
        "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {name: east}\nspec: {asn: 64512}\n".to_owned();
    for number in 0..300 {
        text += &format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {colour}-{number}}}\n\
             spec: {{cluster: east}}\n"
        );
    }
    text
}

#[test]
fn an_apply_that_is_killed_is_whole_or_not_at_all() {
    let place = Place::new();
    place.write("red.yaml", &intent("red"));
    place.write("blue.yaml", &intent("blue"));
    place.run("--store s apply --prune -f red.yaml", 0);
    // From dead at once to finished before the signal.
    for step in 0..24_u64 {
        let file = if step % 2 == 0 { "blue.yaml" } else { "red.yaml" };
        let mut apply =
            place.command(&format!("--store s apply --prune -f {file}")).spawn().expect("it runs");
        std::thread::sleep(Duration::from_millis(step * 8));
        apply.kill().expect("it can be ended");
        apply.wait().expect("it ended");
        assert_whole(&place, &format!("after {} ms", step * 8));
    }
    place.run("--store s apply --prune -f blue.yaml", 0);
    assert_eq!(assert_whole(&place, "at the end"), "blue", "what was killed holds nothing up");
}

/// All networks are there, and all of one colour: which one.
fn assert_whole(place: &Place, when: &str) -> String {
    let (json, _) = place.run("--store s get vn -o json", 0);
    let networks: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    let colours: BTreeSet<&str> = networks
        .iter()
        .filter_map(|network| network["metadata"]["name"].as_str()?.split('-').next())
        .collect();
    assert_eq!((networks.len(), colours.len()), (300, 1), "{when}: {colours:?}");
    colours.into_iter().collect()
}
