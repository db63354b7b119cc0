use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("tieline.toml"))
}

#[test]
fn an_empty_file_is_the_default() {
    let config = parse("").expect("every key is optional");
    assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.cores, [None]);
    assert!(matches!(config.idle, IdlePolicy::Sleep { .. }));
    assert_eq!(config.session_quota, 500_000);
    assert_eq!(config.limits, Config::default().limits);
}

#[test]
fn every_key_has_its_effect() {
    let text = r#"
        log = "debug"
        [api]
        socket = "/tmp/t.sock"
        listen = "127.0.0.1:7070"
        [engine]
        cores = [3, 1]
        longest_sleep_us = 50
        router_mac = "02:00:00:00:00:07"
        clamp_mss = false
        extra_mpls_udp_port = 51234
        [sessions]
        capacity = 1000
        quota_per_vrf = 7
        fragments = 16
        tcp_established_s = 100
        udp_replied_s = 9
        [limits]
        ports = 2
        interfaces = 3
        vrfs = 4
        next_hops = 5
        routes = 6
        security_groups = 7
        rules = 8
        [neighbours]
        probe_interval_ms = 200
        probes = 9
        [dpdk]
        hugepages = "never"
        memory_mib = 100
        buffers = 2000
        buffer_size = 9216
        pci = true
        extra_args = ["--x"]
    "#;
    let config = parse(text).expect("all good");
    assert_eq!(config.log, "debug");
    assert_eq!(config.listen.map(|address| address.port()), Some(7070));
    assert_eq!(config.cores, [Some(3), Some(1)]);
    assert_eq!(config.idle, IdlePolicy::Poll, "pinned workers poll");
    assert_eq!(config.router_mac.map(|mac| mac.to_string()).as_deref(), Some("02:00:00:00:00:07"));
    assert_eq!(
        config.options,
        Options { clamp_mss: false, extra_mpls_udp_port: Some(51234), ..Options::default() }
    );
    assert_eq!((config.sessions, config.session_quota, config.fragments), (1000, 7, 16));
    assert_eq!(config.timeouts.tcp_established, Duration::from_secs(100));
    assert_eq!(config.timeouts.udp_replied, Duration::from_secs(9));
    assert_eq!(config.limits.imported_routes, 12);
    assert_eq!((config.limits.ports, config.limits.interfaces, config.limits.vrfs), (2, 3, 4));
    assert_eq!((config.limits.next_hops, config.limits.security_groups, config.limits.rules), (5, 7, 8));
    assert_eq!(config.neighbours.probe_interval, Duration::from_millis(200));
    assert_eq!(config.neighbours.probes, 9);
    assert_eq!(config.eal.hugepages, Hugepages::Never);
    assert_eq!((config.eal.memory_mib, config.eal.pci), (Some(100), true));
    assert_eq!(config.eal.extra_args, ["--x"]);
    assert_eq!((config.buffers, config.buffer_size), (2000, 9216));
}

/// Every complaint: a text, the line and key it must name, and a word of the
/// sentence.
const BAD: [(&str, usize, &str, &str); 20] = [
    ("\nlgo = \"info\"", 2, "lgo", "unknown field"),
    ("log = \"info\"\nlog = \"debug\"", 2, "", "duplicate"),
    ("log = 3", 1, "log", "string"),
    ("log = \"tieline=loud\"", 1, "log", "no log filter"),
    ("[api]\nsocket = \"/\"", 2, "api.socket", "names no file"),
    ("[api]\n\nlisten = \"localhost\"", 3, "api.listen", "127.0.0.1:7070"),
    ("[engine]\ncores = []", 2, "engine.cores", "1 to 64"),
    ("[engine]\ncores = [1, 1]", 2, "engine.cores", "twice"),
    ("[engine]\ncores = [1]\nworkers = 2", 3, "engine.workers", "remove"),
    ("[engine]\nworkers = 0", 2, "engine.workers", "1 to 64"),
    ("[engine]\nidle = \"rest\"", 2, "engine.idle", "unknown variant"),
    ("[engine]\nrouter_mac = \"01:00:00:00:00:00\"", 2, "engine.router_mac", "one station"),
    ("[engine]\nextra_mpls_udp_port = 4789", 2, "engine.extra_mpls_udp_port", "meaning"),
    ("[engine]\nextra_mpls_udp_port = 70000", 2, "engine.extra_mpls_udp_port", "70000"),
    ("[sessions]\ncapacity = 0", 2, "sessions.capacity", "out of range"),
    ("[sessions]\ntcp_closed_s = 0", 2, "sessions.tcp_closed_s", "out of range"),
    ("[limits]\nports = 65", 2, "limits.ports", "1 to 64"),
    ("[neighbours]\nprobe_interval_ms = 1", 2, "neighbours.probe_interval_ms", "out of range"),
    ("[dpdk]\nbuffer_size = 10", 2, "dpdk.buffer_size", "out of range"),
    ("[dpdk]\npages = 10", 2, "dpdk.pages", "unknown field"),
];

#[test]
fn complaints_name_file_line_and_key() {
    for (text, line, key, word) in BAD {
        let error = parse(text).expect_err(text);
        assert_eq!(error.line, Some(line), "{text}: {error}");
        if !key.is_empty() {
            assert_eq!(error.key.as_deref(), Some(key), "{text}: {error}");
        }
        let sentence = error.to_string();
        assert!(sentence.starts_with(&format!("tieline.toml:{line}: ")), "{sentence}");
        assert!(sentence.contains(word), "{sentence}");
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let path = format!("/{}", "x".repeat(LONGEST_SOCKET_PATH));
    assert!(check_socket(path.clone().into()).is_err());
    assert!(check_socket(path[..LONGEST_SOCKET_PATH].into()).is_ok());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/nonexistent/t.toml")).expect_err("there is none").to_string();
    assert!(error.starts_with("/nonexistent/t.toml: cannot be read"), "{error}");
}
