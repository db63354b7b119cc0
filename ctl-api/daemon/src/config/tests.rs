use tieline_gate::Role;
use tieline_gate::limits::ApiLimits;
use tieline_gate::roles::Who;

use super::*;
use crate::socket::Permissions;

fn parse(text: &str) -> Result<Config, ConfigError> {
    config::parse(text, Path::new("tieline.toml"), Config::check)
}

#[test]
fn an_empty_file_is_the_default() {
    let config = parse("").expect("every key is optional");
    assert_eq!(config.api.socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(config.api.tcp, None);
    assert_eq!(config.api.permissions, Permissions { mode: 0o660, directory_mode: 0o755, group: None });
    assert_eq!((config.api.roles.socket_role, config.api.roles.entries.len()), (Role::Controller, 0));
    assert_eq!(config.cores, [None]);
    assert!(matches!(config.idle, IdlePolicy::Sleep { .. }));
    assert_eq!(config.allowance, Allowance { quota: 500_000, rate: Allowance::UNLIMITED });
    assert_eq!(config.limits, Config::default().limits);
}

#[test]
fn every_key_has_its_effect() {
    let text = r#"
        log = "debug"
        [api]
        socket = "/tmp/t.sock"
        listen = "127.0.0.1:7070"
        socket_mode = "0600"
        socket_directory_mode = "700"
        socket_group = "0"
        socket_role = "read-only"
        [api.tls]
        certificate = "/c.pem"
        key = "/k.pem"
        client_ca = "/a.pem"
        crl = "/r.pem"
        check_s = 9
        [[api.roles]]
        name = "ctl-*.example"
        role = "controller"
        controllers = ["a"]
        [[api.roles]]
        uid = 7
        role = "operator"
        [api.limits]
        connections = 1
        connections_per_peer = 2
        handshakes = 3
        streams_per_connection = 4
        calls_per_peer = 5
        reads_per_peer = 6
        requests_per_second = 7
        kib_per_second = 8
        message_kib = 19
        receive_memory_mib = 10
        reply_memory_mib = 17
        headers_kib = 11
        resets = 12
        handshake_s = 13
        keepalive_s = 14
        keepalive_timeout_s = 15
        stalled_s = 16
        [engine]
        cores = [3, 1]
        longest_sleep_us = 50
        router_mac = "02:00:00:00:00:07"
        clamp_mss = false
        extra_mpls_udp_port = 51234
        [sessions]
        capacity = 1000
        quota_per_vrf = 7
        rate_per_vrf = 9
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
    assert_eq!(config.log.to_string(), "debug");
    let api = &config.api;
    assert_eq!(api.permissions, Permissions { mode: 0o600, directory_mode: 0o700, group: Some(0) });
    let (address, tls) = api.tcp.as_ref().expect("it listens");
    assert_eq!((address.port(), tls.check), (7070, Duration::from_secs(9)));
    assert_eq!((&*tls.certificate, &*tls.key), (Path::new("/c.pem"), Path::new("/k.pem")));
    assert_eq!((&*tls.client_ca, tls.crl.as_deref()), (Path::new("/a.pem"), Some(Path::new("/r.pem"))));
    assert_eq!((api.roles.socket_role, api.roles.entries.len()), (Role::ReadOnly, 2));
    assert_eq!((api.roles.entries[1].who.clone(), api.roles.entries[1].role), (Who::User(7), Role::Operator));
    assert_eq!(api.roles.entries[0].grant.controllers.as_deref(), Some(&["a".to_owned()][..]));
    let limits = ApiLimits {
        connections: 1,
        connections_per_peer: 2,
        handshakes: 3,
        streams_per_connection: 4,
        calls_per_peer: 5,
        reads_per_peer: 6,
        requests_per_second: 7,
        bytes_per_second: 8 << 10,
        message: 19 << 10,
        receive_memory: 10 << 20,
        waiting: 64 << 20,
        replies: 17 << 20,
        headers: 11 << 10,
        resets: 12,
        handshake: Duration::from_secs(13),
        keepalive: Duration::from_secs(14),
        keepalive_timeout: Duration::from_secs(15),
        stalled: Duration::from_secs(16),
    };
    assert_eq!(api.limits, limits);
    assert_eq!(config.cores, [Some(3), Some(1)]);
    assert_eq!(config.idle, IdlePolicy::Poll, "pinned workers poll");
    assert_eq!(config.router_mac.map(|mac| mac.to_string()).as_deref(), Some("02:00:00:00:00:07"));
    assert_eq!(
        config.options,
        Options { clamp_mss: false, extra_mpls_udp_port: Some(51234), ..Options::default() }
    );
    assert_eq!((config.sessions, config.fragments), (1000, 16));
    assert_eq!(config.allowance, Allowance { quota: 7, rate: 9 });
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
const BAD: [(&str, usize, &str, &str); 39] = [
    ("\nlgo = \"info\"", 2, "lgo", "unknown field"),
    ("log = \"info\"\nlog = \"debug\"", 2, "", "duplicate"),
    ("[process]\nuser = \"no such user\"", 2, "process.user", "there is no user"),
    ("[process]\ncapabilities = [\"CAP_ALL\"]", 2, "process.capabilities", "is no capability"),
    ("log = 3", 1, "log", "string"),
    ("[api]\nranks = [\"a*\", \"ab\"]", 2, "api.ranks", "never counts"),
    ("[api]\nnames_per_peer = 0", 2, "api.names_per_peer", "out of range"),
    ("[api]\ngrace_s = 60\nlongest_grace_s = 59", 2, "api.grace_s", "api.longest_grace_s = 59"),
    ("log = \"tieline=loud\"", 1, "log", "no log filter"),
    ("log = \"warning\"", 1, "log", "\"warning\" is no level"),
    ("[api]\nsocket = \"/\"", 2, "api.socket", "names no file"),
    ("[api]\n\nlisten = \"localhost\"", 3, "api.listen", "127.0.0.1:7070"),
    ("[api]\nlisten = \"127.0.0.1:1\"", 2, "api.listen", "mutual TLS only: add [api.tls]"),
    ("[api]\nlisten = \"127.0.0.1:1\"\n[api.tls]\nkey = \"/k\"", 2, "api.listen", "add [[api.roles]]"),
    ("[api.tls]\nkey = \"/k\"", 1, "api.tls", "no api.listen"),
    (
        "[api]\nlisten = \"[::1]:1\"\nroles = [{name = \"a\", role = \"operator\"}]\ntls = {key = \"/k\"}",
        4,
        "api.tls.certificate",
        "name a PEM file",
    ),
    ("[api]\nsocket_mode = \"0668\"", 2, "api.socket_mode", "octal"),
    ("[api]\nsocket_mode = \"+660\"", 2, "api.socket_mode", "octal"),
    ("[api]\nsocket_directory_mode = \"4755\"", 2, "api.socket_directory_mode", "octal"),
    ("[api]\nsocket_group = \"no such group\"", 2, "api.socket_group", "give its number"),
    ("[api]\nsocket_role = \"admin\"", 2, "api.socket_role", "unknown variant"),
    ("[[api.roles]]\nrole = \"operator\"", 1, "api.roles", "give one of the two"),
    ("[[api.roles]]\nname = \"\"\nrole = \"operator\"", 1, "api.roles", "matches no name"),
    ("[api.limits]\nconnections = 0", 2, "api.limits.connections", "out of range"),
    ("[api.limits]\nmessage_kib = 1", 2, "api.limits.message_kib", "out of range"),
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
        assert_eq!(error.line(), Some(line), "{text}: {error}");
        if !key.is_empty() {
            assert_eq!(error.key(), Some(key), "{text}: {error}");
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
