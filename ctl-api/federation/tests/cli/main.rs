//! The real `tieline-federation`, on files, on stores, and through a server.

mod crash;
mod damage;
mod secure;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use server::Server;

const CLUSTERS: &str = "\
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: east}
spec: {asn: 64512, gateways: [{name: east-1, endpoint: 'unix:/a'}, {name: east-2, endpoint: 'unix:/b'}]}
---
apiVersion: tieline.io/v1
kind: Site
metadata: {name: far}
spec: {cluster: east, gateways: [east-2]}
";

const RED: &str = "\
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: red}
spec:
  cluster: east
  subnets: [{prefix: 10.1.0.0/24}]
";

fn endpoint(gateway: &str) -> String {
    format!(
        "apiVersion: tieline.io/v1\nkind: Endpoint\nmetadata: {{name: h1}}\n\
         spec: {{network: red, gateway: {gateway}, interface: {{port: p0}}, addresses: [10.1.0.9]}}\n"
    )
}

/// A directory with files of a test, where the program runs.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("tieline-federation-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file of the test");
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieline-federation"));
        command.args(arguments.split_whitespace()).current_dir(&self.0).stdin(Stdio::null());
        for variable in ["SERVER", "ETCD", "STORE", "CA", "CERT", "KEY", "SERVER_NAME", "CONFIG"] {
            command.env_remove(format!("TIELINE_FEDERATION_{variable}"));
        }
        command
    }

    /// Runs the program and expects an exit code; returns both outputs.
    fn run(&self, arguments: &str, code: i32) -> (String, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("the program runs");
        let texts = (text(stdout), text(stderr));
        assert_eq!(status.code(), Some(code), "{arguments}: {texts:?}");
        texts
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_checked_without_a_store() {
    let place = Place::new();
    place.write("clusters.yaml", CLUSTERS);
    place.write("red.yaml", RED);
    let (out, _) = place.run("validate -f clusters.yaml red.yaml", 0);
    assert_eq!(out, "3 objects in 2 files are right\n");
    assert_eq!(place.run("validate -f .", 0).0, out, "a directory is its files");

    place.write("red.yaml", &RED.replace("10.1.0.0/24", "10.1.0.1/24").replace("cluster: east", "vni: x"));
    let (out, error) = place.run("validate -f clusters.yaml red.yaml", 1);
    assert_eq!(out, "");
    assert_eq!(
        error,
        "red.yaml:5:8: VirtualNetwork/default/red: spec.vni: must be a whole number, not \"x\" [field]\n\
         red.yaml:6:22: VirtualNetwork/default/red: spec.subnets[0].prefix: 10.1.0.1/24 has host bits: \
         write 10.1.0.0/24 [field]\n\
         red.yaml:5:3: VirtualNetwork/default/red: spec.cluster: is missing: give it: name of the cluster [field]\n\
         3 problems; nothing was changed\n"
    );
    let (out, _) = place.run("validate -o json -f clusters.yaml red.yaml", 1);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["problems"][1]["line"], 6);
    assert_eq!(json["problems"][1]["rule"], "field");
    place.run("validate -f absent.yaml", 2);
}

#[test]
fn schemas_are_printed() {
    let place = Place::new();
    let (out, _) = place.run("schema vn", 0);
    let schema: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(schema["properties"]["kind"]["const"], "VirtualNetwork");
    assert!(place.run("schema", 0).0.contains("NetworkPolicy"));
    assert!(place.run("schema Netwrk", 2).1.contains("use one of Cluster"));
}

#[test]
fn two_sets_of_files_are_compared() {
    let place = Place::new();
    place.write("old.yaml", RED);
    place.write("new.yaml", &RED.replace("10.1.0.0", "10.2.0.0"));
    let (out, _) = place.run("diff -f new.yaml --against old.yaml", 1);
    assert_eq!(
        out,
        "~ VirtualNetwork/default/red\n  ~ spec.subnets[0].prefix: 10.1.0.0/24 -> 10.2.0.0/24\n\
         0 to add, 1 to change, 0 to remove\n"
    );
    assert_eq!(place.run("diff -f old.yaml --against old.yaml", 0).0, "no object would change\n");
}

/// The same on a store of its own and through a server.
fn apply_and_get(place: &Place, at: &str) {
    place.write("clusters.yaml", CLUSTERS);
    place.write("red.yaml", RED);
    let (out, _) = place.run(&format!("{at} diff -f clusters.yaml red.yaml"), 1);
    assert_eq!(
        out,
        "+ Cluster/east\n+ Site/far\n+ VirtualNetwork/default/red\n3 to add, 0 to change, 0 to remove\n"
    );
    let (dry, _) = place.run(&format!("{at} apply --dry-run -f clusters.yaml red.yaml"), 0);
    assert_eq!(dry, out);
    let (done, _) = place.run(&format!("{at} apply -f clusters.yaml red.yaml"), 0);
    assert!(done.starts_with(&out) && done.contains("\nrevision "), "{done}");
    assert_eq!(place.run(&format!("{at} diff -f clusters.yaml red.yaml"), 0).0, "no object would change\n");

    let (table, _) = place.run(&format!("{at} get vn"), 0);
    assert_eq!(
        table,
        "KIND            NAMESPACE  NAME  WHAT IT SAYS\n\
         VirtualNetwork  default    red   of east, 10.1.0.0/24\n"
    );
    let (yaml, _) = place.run(&format!("{at} get vn/red -o yaml"), 0);
    place.write("again.yaml", &yaml);
    assert_eq!(place.run(&format!("{at} diff -f again.yaml"), 0).0, "no object would change\n");
    assert!(place.run(&format!("{at} get vn blue"), 4).1.contains("there is no VirtualNetwork/default/blue"));

    place.write("east-1.yaml", &endpoint("east-1"));
    place.write("east-2.yaml", &endpoint("east-2"));
    let (_, refused) = place.run(&format!("{at} apply --site far -f east-1.yaml"), 1);
    assert!(refused.contains("spec.gateway: gateway east-1 is not at site far"), "{refused}");
    place.run(&format!("{at} apply --site far -f east-2.yaml"), 0);

    let (json, _) = place.run(&format!("{at} desired east-2 --json"), 0);
    let desired: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let vrf = &desired["east-2"]["vrfs"]["default/red"];
    assert_eq!(vrf["imports"], serde_json::json!(["64512:8000000"]));
    assert_eq!(vrf["exports"], serde_json::json!(["64512:7699", "64512:8000000"]), "with the site's");
    let (yaml, _) = place.run(&format!("{at} desired"), 0);
    assert!(yaml.starts_with("east-1:\n") && yaml.contains("\neast-2:\n"), "{yaml}");
    assert!(place.run(&format!("{at} desired east-9"), 4).1.contains("no cluster has a gateway east-9"));

    let (_, refused) = place.run(&format!("{at} delete vn/red"), 1);
    assert!(
        refused.contains("Endpoint/default/h1: spec.network: there is no VirtualNetwork/default/red"),
        "{refused}"
    );
    let (out, _) = place.run(&format!("{at} apply --prune -f clusters.yaml"), 0);
    assert!(out.starts_with("- VirtualNetwork/default/red\n- Endpoint/default/h1\n"), "{out}");
}

#[test]
fn a_store_in_a_file() {
    let place = Place::new();
    apply_and_get(&place, "--store state/federation.redb");
}

#[test]
fn a_server_on_a_socket() {
    let place = Place::new();
    let _server = Server::start(place.path());
    apply_and_get(&place, &format!("--server unix:{}", place.path().join("socket").display()));
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let place = Place::new();
    let (_, error) = place.run("--server unix:/nowhere/socket get", 3);
    assert!(error.contains("cannot reach the controller at unix:/nowhere/socket"), "{error}");
    assert!(place.run("--server ftp://x get", 2).1.contains("must be unix:PATH"));
}

#[test]
fn changes_are_followed() {
    let place = Place::new();
    let _server = Server::start(place.path());
    let at = format!("--server unix:{}", place.path().join("socket").display());
    let mut watching = place
        .command(&format!("{at} watch --after 0"))
        .stdout(std::fs::File::create(place.path().join("seen")).expect("a file"))
        .spawn()
        .expect("the program runs");
    place.write("clusters.yaml", CLUSTERS);
    place.run(&format!("{at} apply -f clusters.yaml"), 0);
    place.run(&format!("{at} delete st/far"), 0);
    let expected = "1 + Cluster/east\n1 + Site/far\n2 - Site/far\n";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = std::fs::read_to_string(place.path().join("seen")).expect("readable");
        if seen == expected {
            break;
        }
        assert!(Instant::now() < deadline && expected.starts_with(&seen), "{seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    watching.kill().expect("it runs");
    watching.wait().expect("it ended");
}

#[test]
fn passwords_do_not_come_out_nor_go_back_in_as_what_stands_for_them() {
    let place = Place::new();
    place.write("clusters.yaml", CLUSTERS);
    place.write(
        "peer.yaml",
        "apiVersion: tieline.io/v1\nkind: Peer\nmetadata: {name: w}\n\
         spec: {cluster: east, address: 198.18.1.1, asn: 64513, families: [evpn], password: swordfish}\n",
    );
    place.run("--store s apply -f clusters.yaml peer.yaml", 0);
    let (yaml, _) = place.run("--store s get peer w -o yaml", 0);
    assert!(yaml.contains("(hidden)") && !yaml.contains("swordfish"), "{yaml}");
    place.write("again.yaml", &yaml);
    let (_, refused) = place.run("--store s apply -f again.yaml", 1);
    assert!(refused.contains("spec.password: (hidden) stands for a password that is not shown"), "{refused}");
}
