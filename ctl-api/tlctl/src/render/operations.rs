//! Forwarding entries, sessions, neighbours, drops and versions.

use std::net::IpAddr;

use tieline_proto::v1::{
    DropCount, GetVersionReply, ListSessionsReply, Neighbour, Problem, ProblemKind, RouteEntry, RouteOrigin,
    Session,
};

use super::Column::{Left, Right};
use super::quantity::{count, duration};
use super::{dashed, listed, narrow_table, printable, table};
use crate::friendly::protocol;

/// A VRF's forwarding table; narrow without RDs and with as much of VIA as
/// fits.
pub fn routes(routes: &[RouteEntry], wide: bool) -> String {
    if wide {
        let columns = [
            Left("PREFIX"),
            Left("ORIGIN"),
            Left("NEXT HOP"),
            Left("VIA"),
            Left("RD"),
            Left("GROUPS"),
            Right("PATHS"),
        ];
        let row = |route: &RouteEntry| {
            vec![
                route.prefix.clone(),
                origin(route).to_owned(),
                dashed(&route.next_hop),
                dashed(&route.via),
                dashed(&route.rd),
                listed(&route.security_groups),
                route.paths.to_string(),
            ]
        };
        return table(&columns, routes.iter().map(row));
    }
    let columns =
        [Left("PREFIX"), Left("ORIGIN"), Left("NEXT HOP"), Left("GROUPS"), Right("PATHS"), Left("VIA")];
    let row = |route: &RouteEntry| {
        vec![
            route.prefix.clone(),
            origin(route).to_owned(),
            dashed(&route.next_hop),
            listed(&route.security_groups),
            route.paths.to_string(),
            dashed(&route.via),
        ]
    };
    narrow_table(&columns, routes.iter().map(row))
}

fn origin(route: &RouteEntry) -> &'static str {
    match route.origin() {
        RouteOrigin::Unspecified => "-",
        RouteOrigin::Local => "local",
        RouteOrigin::Workload => "workload",
        RouteOrigin::Connected => "connected",
        RouteOrigin::Static => "static",
        RouteOrigin::Vpn => "vpn",
    }
}

/// Live sessions, and how many there are; narrow without workers and bytes.
pub fn sessions(reply: &ListSessionsReply, wide: bool) -> String {
    let text = if wide { wide_sessions(&reply.sessions) } else { narrow_sessions(&reply.sessions) };
    format!(
        "{text}\n{} shown; {} live of {} that fit\n",
        count(reply.sessions.len() as u64),
        count(reply.total),
        count(reply.capacity)
    )
}

fn wide_sessions(sessions: &[Session]) -> String {
    let columns = [
        Right("WORKER"),
        Left("VRF"),
        Left("PROTOCOL"),
        Left("SOURCE"),
        Left("DESTINATION"),
        Left("STATE"),
        Right("EXPIRES"),
        Right("FORWARD PACKETS"),
        Right("FORWARD BYTES"),
        Right("REVERSE PACKETS"),
        Right("REVERSE BYTES"),
    ];
    let row = |session: &Session| {
        let mut row = vec![session.worker.to_string()];
        row.extend(flow(session));
        row.extend([
            count(session.forward_packets),
            count(session.forward_bytes),
            count(session.reverse_packets),
            count(session.reverse_bytes),
        ]);
        row
    };
    table(&columns, sessions.iter().map(row))
}

fn narrow_sessions(sessions: &[Session]) -> String {
    let columns = [
        Left("VRF"),
        Left("PROTOCOL"),
        Left("SOURCE"),
        Left("DESTINATION"),
        Left("STATE"),
        Right("EXPIRES"),
        // Forward and reverse.
        Left("PACKETS"),
    ];
    let row = |session: &Session| {
        let mut row = Vec::from(flow(session));
        row.push(format!("{} / {}", count(session.forward_packets), count(session.reverse_packets)));
        row
    };
    narrow_table(&columns, sessions.iter().map(row))
}

/// VRF, protocol, source, destination, state, and when it expires.
fn flow(session: &Session) -> [String; 6] {
    let vrf = if session.reply_vrf.is_empty() || session.reply_vrf == session.vrf {
        session.vrf.clone()
    } else {
        format!("{} <> {}", session.vrf, session.reply_vrf)
    };
    [
        vrf,
        protocol(session.protocol),
        endpoint(&session.source, session.source_port),
        endpoint(&session.destination, session.destination_port),
        session.state.clone(),
        duration(session.expires_in_seconds.into()),
    ]
}

/// An address with its port, when it has one.
fn endpoint(address: &str, port: u32) -> String {
    match (port, address.parse()) {
        (0, _) => address.to_owned(),
        (port, Ok(IpAddr::V6(_))) => format!("[{address}]:{port}"),
        (port, _) => format!("{address}:{port}"),
    }
}

/// ARP and ND neighbours.
pub fn neighbours(neighbours: &[Neighbour]) -> String {
    table(
        &[Left("INTERFACE"), Left("ADDRESS"), Left("MAC"), Left("STATE"), Right("CONFIRMED")],
        neighbours.iter().map(|neighbour| {
            let confirmed = match neighbour.state.as_str() {
                "resolved" => format!("{} ago", duration(neighbour.age_seconds)),
                _ => "-".to_owned(),
            };
            vec![
                neighbour.interface.clone(),
                neighbour.address.clone(),
                dashed(&neighbour.mac),
                neighbour.state.clone(),
                confirmed,
            ]
        }),
    )
}

/// Drops by reason, and what each means.
pub fn drops(drops: &[DropCount]) -> String {
    if drops.is_empty() {
        return "Nothing was dropped.\n".to_owned();
    }
    table(
        &[Right("PACKETS"), Left("REASON"), Left("MEANING")],
        drops.iter().map(|drop| vec![count(drop.packets), drop.reason.clone(), drop.description.clone()]),
    )
}

/// What is wrong, and since when.
pub fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "Nothing is wrong.\n".to_owned();
    }
    let kind = |problem: &Problem| match problem.kind() {
        ProblemKind::Unspecified => "-",
        ProblemKind::Store => "store",
        ProblemKind::Port => "port",
        ProblemKind::Listener => "listener",
    };
    table(
        &[Left("WHAT"), Left("SUBJECT"), Left("FOR"), Left("PROBLEM")],
        problems.iter().map(|problem| {
            vec![
                kind(problem).to_owned(),
                dashed(&problem.subject),
                duration(problem.since_seconds),
                problem.message.clone(),
            ]
        }),
    )
}

/// The line of the command line itself.
pub fn client_version(version: &str) -> String {
    format!("tlctl    {version}\n")
}

/// The line of the daemon.
pub fn daemon_version(reply: &GetVersionReply) -> String {
    let hugepages = if reply.hugepages { "with hugepages" } else { "without hugepages" };
    let line = format!(
        "tieline  {} (API {}, DPDK {} {hugepages}), up {}, boot {}",
        reply.version,
        reply.api_versions.join(", "),
        reply.dpdk_version,
        duration(reply.uptime_seconds),
        reply.boot_id,
    );
    format!("{}\n", printable(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_show_origin_and_resolution() {
        let entries = [
            RouteEntry {
                prefix: "10.0.0.0/8".into(),
                origin: RouteOrigin::Vpn.into(),
                next_hop: "gw2".into(),
                via: "mpls_udp to 198.18.0.2 label 100".into(),
                rd: "64512:1".into(),
                security_groups: vec![7],
                paths: 2,
            },
            RouteEntry {
                prefix: "10.1.0.1/32".into(),
                origin: RouteOrigin::Local.into(),
                ..Default::default()
            },
        ];
        assert_eq!(
            routes(&entries, true),
            "PREFIX       ORIGIN  NEXT HOP  VIA                               RD       GROUPS  PATHS\n\
             10.0.0.0/8   vpn     gw2       mpls_udp to 198.18.0.2 label 100  64512:1  7           2\n\
             10.1.0.1/32  local   -         -                                 -        -           0\n"
        );
        assert_eq!(
            routes(&entries, false),
            "PREFIX       ORIGIN  NEXT HOP  GROUPS  PATHS  VIA\n\
             10.0.0.0/8   vpn     gw2       7           2  mpls_udp to 198.18.0.2 label 100\n\
             10.1.0.1/32  local   -         -           0  -\n"
        );
    }

    #[test]
    fn sessions_show_both_directions() {
        let tcp = Session {
            worker: 1,
            vrf: "red".into(),
            protocol: 6,
            source: "10.0.0.1".into(),
            source_port: 40000,
            destination: "2001:db8::1".into(),
            destination_port: 80,
            state: "established".into(),
            expires_in_seconds: 7_440,
            forward_packets: 1234,
            forward_bytes: 56789,
            reverse_packets: 1,
            reverse_bytes: 60,
            reply_vrf: "blue".into(),
        };
        let reply = ListSessionsReply { sessions: vec![tcp], total: 12_345, capacity: 1_000_000 };
        assert_eq!(
            sessions(&reply, true),
            "WORKER  VRF          PROTOCOL  SOURCE          DESTINATION       STATE          EXPIRES  \
             FORWARD PACKETS  FORWARD BYTES  REVERSE PACKETS  REVERSE BYTES\n     \
             1  red <> blue  tcp       10.0.0.1:40000  [2001:db8::1]:80  established  2 h 4 min  \
             \x20         1,234         56,789                1             60\n\
             \n\
             1 shown; 12,345 live of 1,000,000 that fit\n"
        );
        assert_eq!(
            sessions(&reply, false),
            "VRF          PROTOCOL  SOURCE          DESTINATION       STATE          EXPIRES  PACKETS\n\
             red <> blue  tcp       10.0.0.1:40000  [2001:db8::1]:80  established  2 h 4 min  1,234 / 1\n\
             \n\
             1 shown; 12,345 live of 1,000,000 that fit\n"
        );
    }

    #[test]
    fn neighbours_show_when_they_were_confirmed() {
        let neighbour = |address: &str, mac: &str, state: &str| Neighbour {
            interface: "up".into(),
            address: address.into(),
            mac: mac.into(),
            state: state.into(),
            age_seconds: 61,
        };
        assert_eq!(
            neighbours(&[
                neighbour("192.0.2.1", "02:00:00:00:00:01", "resolved"),
                neighbour("192.0.2.2", "", "resolving"),
                neighbour("192.0.2.3", "02:00:00:00:00:03", "static"),
            ]),
            "INTERFACE  ADDRESS    MAC                STATE          CONFIRMED\n\
             up         192.0.2.1  02:00:00:00:00:01  resolved   1 min 1 s ago\n\
             up         192.0.2.2  -                  resolving              -\n\
             up         192.0.2.3  02:00:00:00:00:03  static                 -\n"
        );
    }

    #[test]
    fn drops_say_what_they_mean() {
        let drop = DropCount {
            reason: "sg_denied_ingress".into(),
            description: "No rule allows it in.".into(),
            packets: 1500,
        };
        assert_eq!(
            drops(&[drop]),
            "PACKETS  REASON             MEANING\n  \
             1,500  sg_denied_ingress  No rule allows it in.\n"
        );
        assert_eq!(drops(&[]), "Nothing was dropped.\n");
    }

    #[test]
    fn problems_say_what_and_since_when() {
        let problem = |kind: ProblemKind, subject: &str, message: &str, since_seconds| Problem {
            kind: kind.into(),
            subject: subject.into(),
            message: message.into(),
            since_seconds,
        };
        let all = [
            problem(ProblemKind::Store, "", "it is full", 3),
            problem(ProblemKind::Listener, "198.18.0.1:7070", "in\nuse", 90),
        ];
        assert_eq!(
            problems(&all),
            "WHAT      SUBJECT          FOR         PROBLEM\n\
             store     -                3 s         it is full\n\
             listener  198.18.0.1:7070  1 min 30 s  in use\n"
        );
        assert_eq!(problems(&[]), "Nothing is wrong.\n");
    }

    #[test]
    fn versions_are_one_line_each() {
        let reply = GetVersionReply {
            version: "0.1.0".into(),
            dpdk_version: "22.11.7".into(),
            api_versions: vec!["tieline.v1".into()],
            boot_id: "abc".into(),
            uptime_seconds: 3600,
            hugepages: true,
        };
        assert_eq!(
            daemon_version(&reply),
            "tieline  0.1.0 (API tieline.v1, DPDK 22.11.7 with hugepages), up 1 h, boot abc\n"
        );
    }
}
