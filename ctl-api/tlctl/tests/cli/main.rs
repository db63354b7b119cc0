//! The real `tlctl` against a daemon of plain maps on a unix socket.

mod fake_daemon;
mod tls;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use fake_daemon::{TempDir, serve};

const GATEWAY: &str = "\
port: {name: fabric0, device: '0000:01:00.0', role: fabric}
---
vrf:
  name: red
  import_route_targets: ['64512:8000001']
  vni: 5000
---
security_group: {id: 7, rules: [{direction: ingress, protocol: tcp, ports: 80}]}
---
route: {rd: '64512:1', prefix: 10.0.0.0/8, route_targets: ['64512:8000001'], next_hop: gw}
";

struct Daemon {
    dir: TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    fn start() -> Self {
        let dir = TempDir::new();
        let runtime = serve(&dir.path().join("control.sock"));
        Self { dir, _runtime: runtime }
    }

    fn command(&self, args: &str) -> Command {
        let mut command = tlctl(args);
        command.env("TIELINE_SOCKET", self.dir.path().join("control.sock"));
        command
    }

    /// Runs `tlctl` and expects an exit code; returns standard output.
    fn run(&self, args: &str, code: i32) -> String {
        let (out, _) = finish(self.command(args), "", code);
        out
    }

    /// The same, with standard input; returns standard output and error.
    fn run_with(&self, args: &str, input: &str, code: i32) -> (String, String) {
        finish(self.command(args), input, code)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file of the test");
        path
    }
}

fn tlctl(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tlctl"));
    command.args(args.split_whitespace());
    for variable in ["TIELINE_SOCKET", "TLCTL_DAEMON", "TLCTL_CA", "TLCTL_CERT", "TLCTL_KEY"] {
        command.env_remove(variable);
    }
    command
}

fn finish(mut command: Command, input: &str, code: i32) -> (String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tlctl starts");
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("tlctl ends");
    let (stdout, stderr) =
        (String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"));
    assert_eq!(status.code(), Some(code), "{command:?}\nstdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}

#[test]
fn objects_are_applied_shown_listed_and_deleted() {
    let daemon = Daemon::start();
    let file = daemon.file("gateway.yaml", GATEWAY);
    assert_eq!(
        daemon.run(&format!("apply -f {}", file.display()), 0),
        "port/fabric0 applied\n\
         vrf/red applied\n\
         security-group/7 applied\n\
         route/64512:1 10.0.0.0/8 applied\n\
         4 applied\n"
    );
    assert_eq!(
        daemon.run("get vrf red", 0),
        "NAME  RD  IMPORT         EXPORT  LABEL   VNI  HOLDERS   STATUS\n\
         red   -   64512:8000001  -           -  5000  operator  ready\n"
    );
    assert!(daemon.run("get route 64512:1 10.0.0.0/8", 0).contains("gw"));
    assert!(daemon.run("get sg 7", 0).contains("ingress    any     tcp       80     any"));
    assert_eq!(
        daemon.run("delete vrf red blue", 0),
        "vrf/red deleted\n\
         vrf/blue deleted\n\
         2 deleted\n"
    );
    let (_, stderr) = daemon.run_with("get vrf red", "", 4);
    assert_eq!(stderr, "tlctl: cannot read vrf/red: it is not declared\n");
    let deleted = daemon.run(&format!("delete --file {}", file.display()), 0);
    assert!(deleted.starts_with("route/64512:1 10.0.0.0/8 deleted\n"), "{deleted}");
    assert!(deleted.ends_with("4 deleted\n"), "{deleted}");
    assert_eq!(daemon.run("list ports -o json", 0), "[]\n");
}

#[test]
fn what_is_in_force_and_not_stored_is_said() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run("problems", 0), "Nothing is wrong.\n");
    assert_eq!(daemon.run("problems -o json", 0), "[]\n");
    let (out, error) = daemon.run_with("apply -f -", "vrf: {name: unstored}", 0);
    assert_eq!(out, "vrf/unstored applied\n1 applied\n");
    assert_eq!(
        error,
        "tlctl: in force, but not stored: a restart of the daemon may not bring it back (it is full)\n"
    );
    let problems = daemon.run("problems", 0);
    assert!(problems.contains("store  -        1 min 1 s  a restart would not bring back all"), "{problems}");
    let (_, error) = daemon.run_with("apply -f -", "vrf: {name: unstored, label: 3}", 1);
    assert_eq!(error, "", "nothing of it is in force");
    let (_, error) = daemon.run_with("apply -f -", "vrf: {name: red}", 0);
    assert_eq!(error, "", "it is stored");
}

#[test]
fn what_is_read_back_can_be_applied_again() {
    let daemon = Daemon::start();
    daemon.run_with("apply -f -", GATEWAY, 0);
    for kind in ["port", "vrf", "sg", "route"] {
        for format in ["yaml", "json"] {
            let listed = daemon.run(&format!("list {kind} -o {format}"), 0);
            daemon.run_with("delete -f -", &listed, 0);
            assert!(!daemon.run(&format!("list {kind} -o {format}"), 0).contains("ready"));
            let (applied, _) = daemon.run_with("apply -f -", &listed, 0);
            assert!(applied.ends_with("1 applied\n"), "{applied}");
            assert_eq!(daemon.run(&format!("list {kind} -o {format}"), 0), listed);
        }
    }
    assert_eq!(
        daemon.run("get sg 7 -o yaml", 0),
        "security_group:\n  id: 7\n  rules:\n  - direction: ingress\n    protocol: tcp\n    ports: 80\n\
         status:\n  state: ready\nholders:\n- controller: operator\n"
    );
    let json: serde_json::Value = serde_json::from_str(&daemon.run("get vrf red -o json", 0)).expect("JSON");
    assert_eq!(json["vrf"]["import_route_targets"][0], "64512:8000001");
    assert_eq!(json["status"]["state"], "ready");
    assert_eq!(json["holders"][0]["controller"], "operator");
}

#[test]
fn lists_have_all_pages() {
    let daemon = Daemon::start();
    let many: String = (0..2500).map(|n| format!("- vrf: {{name: v{n:04}}}\n")).collect();
    let (applied, _) = daemon.run_with("apply -f -", &many, 0);
    assert!(applied.ends_with("vrf/v2499 applied\n2500 applied\n"));
    daemon.run_with("delete -f -", &many, 0);
    let few: String = (0..5).map(|n| format!("- vrf: {{name: v{n}}}\n")).collect();
    daemon.run_with("apply -f -", &few, 0);
    assert_eq!(daemon.run("list vrfs", 0).lines().count(), 6);
}

#[test]
fn waiting_and_refused_are_told_apart() {
    let daemon = Daemon::start();
    let text = "vrf: {name: bad, label: 3}\n---\ninterface: {name: web, port: t0, vrf: red}\n---\nvrf: {name: red}\n";
    let (stdout, _) = daemon.run_with("apply -f -", text, 1);
    assert_eq!(
        stdout,
        "vrf/bad refused (invalid field): vrf.label: labels 0 to 15 are reserved; use 16 to 1048575\n\
         interface/web waits for port/t0, vrf/red\n\
         vrf/red applied\n\
         1 applied, 1 waiting, 1 refused\n"
    );
    assert!(daemon.run("get if web", 0).contains("waits for port/t0\n"));
    assert!(daemon.run("get if web -o yaml", 0).contains("state: waiting\n  waits_for:\n  - port/t0\n"));
}

#[test]
fn an_atomic_apply_is_all_or_nothing() {
    let daemon = Daemon::start();
    let text = "vrf: {name: red}\n---\nvrf: {name: bad, label: 3}\n---\nvrf: {name: blue}\n";
    let (stdout, _) = daemon.run_with("apply --atomic -f -", text, 1);
    assert_eq!(
        stdout,
        "vrf/bad refused (invalid field): vrf.label: labels 0 to 15 are reserved; use 16 to 1048575\n\
         vrf/red not applied: another object was refused\n\
         vrf/blue not applied: another object was refused\n\
         0 applied, 1 refused, 2 left as they were\n"
    );
    assert_eq!(daemon.run("list vrf -o json", 0), "[]\n");
    let (stdout, _) = daemon.run_with("apply --atomic -f -", &text.replace("label: 3", "label: 16"), 0);
    assert!(stdout.ends_with("3 applied\n"), "{stdout}");
    let many: String = (0..10_001).map(|n| format!("- vrf: {{name: v{n}}}\n")).collect();
    for command in ["apply --atomic -f -", "apply --dry-run -f -", "diff -f -"] {
        let (_, stderr) = daemon.run_with(command, &many, 2);
        assert!(stderr.contains("10001 objects, and at most 10000"), "{stderr}");
    }
}

#[test]
fn what_others_hold_stays() {
    let daemon = Daemon::start();
    for holder in ["operator", "cluster-a", "gone"] {
        daemon.run_with(&format!("apply -f - --as {holder}"), "vrf: {name: red}\n", 0);
    }
    daemon.run_with("apply -f -", "vrf: {name: blue}\n", 0);
    assert_eq!(
        daemon.run("list vrf --wide", 0),
        "NAME  RD  IMPORT  EXPORT  LABEL  VNI  HOLDERS                            STATUS\n\
         blue  -   -       -           -    -  operator                           ready\n\
         red   -   -       -           -    -  cluster-a, gone (stale), operator  ready\n"
    );
    assert_eq!(
        daemon.run("delete vrf red blue", 0),
        "vrf/red deleted\n\
         vrf/blue deleted\n\
         vrf/red still held by cluster-a, gone (stale)\n\
         2 deleted, 1 still held by others\n"
    );
    assert!(daemon.run("delete vrf red --as cluster-a", 0).contains("vrf/red still held by gone (stale)\n"));
    assert!(daemon.run("list vrf", 0).ends_with("  stale, ready\n"));
    assert_eq!(
        daemon.run("controllers", 0),
        "NAME  RANK  SESSION          TERM  HELD  STALE  KEPT             SOFTWARE\n\
         gone     -  ended 1 min ago     0     1      0  until withdrawn  tlctl\n"
    );
    let (_, stderr) = daemon.run_with("forget gone", "", 1);
    assert!(stderr.contains("cannot forget controller gone: it holds 1 objects and routes"), "{stderr}");
    assert_eq!(daemon.run("forget gone --withdraw", 0), "gone forgotten, 1 objects and routes withdrawn\n");
    let (_, stderr) = daemon.run_with("forget gone", "", 4);
    assert!(stderr.contains("no controller of that name"), "{stderr}");
    assert_eq!(daemon.run("controllers -o json", 0), "[]\n");
}

#[test]
fn lists_can_be_filtered() {
    let daemon = Daemon::start();
    daemon.run_with("apply -f - --as cluster-a", "vrf: {name: red}\n", 0);
    daemon.run_with("apply -f -", "- vrf: {name: blue}\n- interface: {name: web, port: t0, vrf: blue}\n", 0);
    let names = |args: &str| -> Vec<String> {
        let listed = daemon.run(args, 0);
        listed.lines().skip(1).map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names("list vrf"), ["blue", "red"]);
    assert_eq!(names("list vrf --controller cluster-a"), ["red"]);
    assert_eq!(names("list if --state waiting"), ["web"]);
    assert!(names("list if --state ready").is_empty());
    let (_, stderr) =
        daemon.run_with("list sr --within 10.0.0.0/8 --vrf red --route-target 64512:1 --next-hop gw", "", 1);
    assert!(
        stderr.ends_with("within 10.0.0.0/8, vrf red, route target 64512:1, next hop gw\n"),
        "all filters are sent: {stderr}"
    );
    daemon.run("get vrf red --controller cluster-a", 0);
    daemon.run_with("get vrf red --controller operator", "", 4);
}

#[test]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let daemon = Daemon::start();
    daemon.run_with("apply -f -", "vrf: {name: red}\n", 0);
    let text = "- vrf: {name: red, vni: 7}\n- vrf: {name: bad, label: 3}\n- interface: {name: web, port: t0, vrf: red}\n";
    let (stdout, _) = daemon.run_with("apply --dry-run -f -", text, 1);
    assert_eq!(
        stdout,
        "vrf/bad refused (invalid field): vrf.label: labels 0 to 15 are reserved; use 16 to 1048575\n\
         interface/web would wait for port/t0\n\
         + interface/web\n\
         ~ vrf/red\n\
         in vrf/red: routes +2 ~0 -0, 2 live sessions decided again\n\
         1 to add, 1 to change, 0 to remove, 1 would wait, 1 refused\n"
    );
    let (atomic, _) = daemon.run_with("apply --dry-run --atomic -f -", text, 1);
    assert!(atomic.ends_with("\nno object and no forwarding entry would change, 1 refused\n"), "{atomic}");
    assert_eq!(daemon.run("list if -o json", 0), "[]\n");
    let (same, _) = daemon.run_with("apply --dry-run -f -", "vrf: {name: red}\n", 0);
    assert_eq!(same, "no object and no forwarding entry would change\n");
    let (json, _) = daemon.run_with("apply --dry-run -o json -f -", "vrf: {name: green}\n", 0);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["objects"][0], serde_json::json!({"key": "vrf/green", "change": "added"}));
    assert_eq!(json["vrfs"][0]["sessions"], 2);
}

#[test]
fn diff_takes_files_for_all_that_is_held() {
    let daemon = Daemon::start();
    let file = daemon.file("gateway.yaml", GATEWAY);
    daemon.run(&format!("apply -f {}", file.display()), 0);
    daemon.run_with("apply --as cluster-a -f -", "vrf: {name: theirs}\n", 0);
    assert_eq!(
        daemon.run(&format!("diff -f {}", file.display()), 0),
        "no object and no forwarding entry would change\n"
    );
    daemon.run_with("apply -f -", "vrf: {name: extra}\n", 0);
    let differs = daemon.run(&format!("diff -f {}", file.display()), 1);
    assert!(differs.starts_with("- vrf/extra\n"), "{differs}");
    assert!(differs.ends_with("0 to add, 0 to change, 1 to remove\n"), "{differs}");
    let (theirs, _) = daemon.run_with("diff --as cluster-a -f -", "vrf: {name: theirs, vni: 8}\n", 1);
    assert!(theirs.starts_with("~ vrf/theirs\n"), "{theirs}");
    daemon.run("diff -f /nonexistent.yaml", 2);
}

#[test]
fn a_session_has_heartbeats_and_an_end_that_is_explained() {
    let daemon = Daemon::start();
    // It gets its second acknowledgement only after tlctl's heartbeat.
    let (stdout, _) = daemon.run_with("apply --as slow -f -", "vrf: {name: red}\n", 0);
    assert_eq!(stdout, "vrf/red applied\n1 applied\n");
    let (_, stderr) = daemon.run_with("apply --as crowd -f -", "vrf: {name: red}\n", 1);
    assert_eq!(
        stderr,
        "tlctl: the daemon closed the session (limit reached): 64 sessions are open, and no more may be. \
         1 of 1 objects were not confirmed\n"
    );
    // One second is the longest silence here, and three are too long.
    let (_, stderr) = daemon.run_with("apply --as deaf -f -", "vrf: {name: red}\n", 3);
    assert!(stderr.contains("the daemon has been silent for 3 s"), "{stderr}");
    assert!(stderr.ends_with("1 of 1 objects were not confirmed\n"), "{stderr}");
}

#[test]
fn watching_prints_a_line_each() {
    let daemon = Daemon::start();
    daemon.run_with("apply -f -", "- vrf: {name: red}\n- interface: {name: web, port: t0, vrf: red}\n", 0);
    // The fake ends the stream, as a daemon that goes away does.
    let (all, stderr) = daemon.run_with("watch --events", "", 3);
    assert_eq!(
        all,
        "interface/web waits for port/t0\n\
         vrf/red ready\n\
         (these are all objects; changes follow)\n\
         1970-01-01T00:00:01.000Z port down t0: no carrier\n"
    );
    assert!(stderr.contains("the daemon ended the stream"), "{stderr}");
    let (vrfs, _) = daemon.run_with("watch vrfs -o json", "", 3);
    let lines: Vec<serde_json::Value> =
        vrfs.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{vrfs}");
    assert_eq!(lines[0]["object"]["vrf"]["name"], "red");
    assert_eq!(
        (&lines[0]["object"]["status"]["state"], &lines[0]["resume_token"]),
        (&"ready".into(), &"1".into())
    );
    assert!(lines[1]["caught_up"].is_object());
    let (resumed, _) = daemon.run_with("watch --resume 7", "", 3);
    assert!(resumed.starts_with("(changes were missed: 7 is old; all objects follow again)\n"), "{resumed}");
}

#[test]
fn exports_are_shown_once_or_followed() {
    let daemon = Daemon::start();
    let table = daemon.run("exports --vrf red", 0);
    assert_eq!(table.lines().count(), 2, "what came before the loss is forgotten: {table}");
    assert!(table.contains("\nred  10.1.0.5/32  workload  64512:1   1001    -"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&daemon.run("exports -o json", 0)).expect("JSON");
    assert_eq!((json.as_array().map(Vec::len), &json[0]["label"]), (Some(1), &1001.into()));
    let (followed, _) = daemon.run_with("exports --follow", "", 3);
    assert!(followed.ends_with("\n- vrf/red 10.1.0.5/32\n"), "{followed}");
    let (lines, _) = daemon.run_with("exports --follow -o json", "", 3);
    assert_eq!(lines.lines().count(), 5);
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["withdrawn"]["prefix"], "10.1.0.5/32");
    let (_, stderr) = daemon.run_with("exports --vrf blue", "", 4);
    assert_eq!(stderr, "tlctl: cannot read the exports: there is no VRF blue\n");
}

#[test]
fn nothing_is_sent_unless_every_file_is_right() {
    let daemon = Daemon::start();
    let good = daemon.file("good.yaml", "vrf: {name: red}\n");
    let bad = daemon.file("bad.yaml", "vrf: {name: blue}\n---\nvrf: {nmae: green}\n");
    let args = format!("apply -f {} {}", good.display(), bad.display());
    let (stdout, stderr) = daemon.run_with(&args, "", 2);
    assert_eq!(stdout, "");
    assert!(
        stderr.starts_with(&format!("tlctl: {}: document 2: vrf.nmae: no such field", bad.display())),
        "{stderr}"
    );
    assert_eq!(daemon.run("list vrf -o json", 0), "[]\n");
    let (_, stderr) = daemon.run_with("apply -f /nonexistent.yaml", "", 2);
    assert!(stderr.starts_with("tlctl: cannot read /nonexistent.yaml: No such file"), "{stderr}");
    daemon.run("get route 64512:1", 2);
    daemon.run("list nonsense", 2);
}

#[test]
fn a_dead_socket_is_explained() {
    let dir = TempDir::new();
    let socket = dir.path().join("control.sock");
    for command in ["list vrf", "stats", "version", "delete vrf red"] {
        let (_, stderr) = finish(tlctl(&format!("--socket {} {command}", socket.display())), "", 3);
        assert!(
            stderr.contains(&format!("no daemon at {}: there is no such socket", socket.display())),
            "{stderr}"
        );
        assert!(stderr.contains("Start the daemon (tieline)"), "{stderr}");
    }
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let (_, stderr) = finish(tlctl(&format!("--socket {} list vrf", socket.display())), "", 3);
    assert!(stderr.contains("nobody listens on that socket any more"), "{stderr}");
    let (_, stderr) = finish(tlctl(&format!("--socket {} wait --timeout 0", socket.display())), "", 3);
    assert!(stderr.contains("gave up waiting for the daemon after 0 s"), "{stderr}");
    let (_, stderr) = finish(tlctl("--daemon https://gw.example:7070 list vrf"), "", 2);
    assert!(stderr.contains("https://gw.example:7070 needs --ca FILE or TLCTL_CA"), "{stderr}");
    let (_, stderr) = finish(
        tlctl("--daemon https://gw.example:7070 --ca /nonexistent.pem --cert x --key y list vrf"),
        "",
        2,
    );
    assert!(stderr.contains("--ca /nonexistent.pem cannot be used"), "{stderr}");
    finish(tlctl("--daemon ftp://gw.example list vrf"), "", 2);
}

#[test]
fn wait_ends_when_the_daemon_appears() {
    let dir = TempDir::new();
    let socket = dir.path().join("control.sock");
    let mut waiting = tlctl(&format!("--socket {} wait --timeout 60", socket.display()));
    let child = waiting.stdout(Stdio::piped()).spawn().expect("tlctl starts");
    let _runtime = serve(&socket);
    let output = child.wait_with_output().expect("tlctl ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("tieline  9.9.9"));
}

#[test]
fn the_operations_are_shown() {
    let daemon = Daemon::start();
    assert_eq!(
        daemon.run("routes --vrf red", 0),
        "PREFIX       ORIGIN  NEXT HOP  GROUPS  PATHS  VIA\n\
         10.0.0.0/8   vpn     gw        -           1  vxlan to 198.18.0.2\n\
         10.1.0.0/16  vpn     gw        -           1  vxlan to 198.18.0.2\n"
    );
    assert_eq!(
        daemon.run("routes --vrf red --wide", 0),
        "PREFIX       ORIGIN  NEXT HOP  VIA                  RD       GROUPS  PATHS\n\
         10.0.0.0/8   vpn     gw        vxlan to 198.18.0.2  64512:1  -           1\n\
         10.1.0.0/16  vpn     gw        vxlan to 198.18.0.2  64512:1  -           1\n"
    );
    let (_, stderr) = daemon.run_with("routes --vrf red --address 192.0.2.1", "", 4);
    assert_eq!(stderr, "tlctl: vrf/red has no route to 192.0.2.1\n");
    let (_, stderr) = daemon.run_with("routes --vrf blue", "", 4);
    assert_eq!(stderr, "tlctl: cannot list the routes of vrf/blue: there is no VRF blue\n");
    assert!(daemon.run("sessions --vrf red --limit 2", 0).ends_with("2 shown; 3 live of 1,000 that fit\n"));
    assert!(daemon.run("sessions --wide", 0).contains("REVERSE BYTES"));
    assert!(daemon.run("sessions -o yaml", 0).contains("protocol: udp\n"));
    let (_, stderr) = daemon.run_with("sessions --vrf busy", "", 1);
    assert!(stderr.contains("worker 0 has not copied its sessions within 5 s"), "{stderr}");
    let neighbours = daemon.run("neighbours", 0);
    assert_eq!(neighbours.matches("up         192.0.2.1  02:00:00:00:00:01  resolved").count(), 2);
    assert!(daemon.run("drops", 0).contains("1,500  no_route  No route to the destination."));
    let json: serde_json::Value =
        serde_json::from_str(&daemon.run("drops --interface up -o json", 0)).expect("JSON");
    assert_eq!(json[0]["packets"], 7);
    let version = daemon.run("version", 0);
    assert!(
        version.starts_with("tlctl    ") && version.contains("\ntieline  9.9.9 (API tieline.v1"),
        "{version}"
    );
    assert!(daemon.run("completion bash", 0).contains("complete -F _tlctl"));
}

#[test]
fn statistics_are_shown_once_or_watched() {
    let daemon = Daemon::start();
    let once = daemon.run("stats", 0);
    assert!(once.contains("in flight: balanced\n"), "{once}");
    assert!(once.contains(" 2.00k "), "2,000 packets in the second between the samples: {once}");
    let watched = daemon.run("stats --watch 0.1 --count 3", 0);
    assert_eq!(watched.matches("balanced\n").count(), 3, "{watched}");
    assert!(!watched.contains('\x1b'), "no terminal, no drawing: {watched}");
    assert!(watched.contains("███"), "{watched}");
    let lines = daemon.run("stats --watch 0.1 --count 2 -o json", 0);
    for line in lines.lines() {
        let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(json["workers"][0]["core"], -1);
    }
    assert_eq!(lines.lines().count(), 2);
}

#[test]
fn cycles_are_shown_by_stage() {
    let daemon = Daemon::start();
    let shown = daemon.run("stats stages --interval 0.1", 0);
    assert!(shown.starts_with("1.00 s, 4.00k cycles a second\n"), "{shown}");
    assert!(shown.contains("\n     1  ███░░░░░░░  25 %     10       100.0       10.0\n"), "{shown}");
    assert!(shown.contains("worker 0") && shown.contains("worker 1"), "{shown}");
    let one = daemon.run("stats stages --interval 0.1 --worker 1", 0);
    assert!(!one.contains("worker 0") && one.contains("worker 1"), "{one}");
    let total = |args: &str| {
        let printed = daemon.run(&format!("stats stages {args} -o json"), 0);
        serde_json::from_str::<serde_json::Value>(&printed).expect("JSON")
    };
    assert_eq!(total("--interval 0.1")["workers"][0]["stages"][0]["packets"], 10);
    assert_eq!(total("--total")["workers"][0]["stages"][0]["packets"], 70);
    let (_, stderr) = daemon.run_with("stats stages --total --worker 2", "", 4);
    assert_eq!(stderr, "tlctl: there is no worker 2: the daemon has 2, numbered from 0\n");
}
