//! What is written is read back the same, and what people write is understood.

use std::collections::HashSet;

use proptest::prelude::*;
use prost_reflect::{Kind, MessageDescriptor, ReflectMessage};
use serde_json::{Value, json};
use tieline_proto::v1::*;

use super::{decode, documents, encode};

fn decoded(value: &Value) -> Object {
    decode::object(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn problem(value: &Value) -> String {
    decode::object(value).expect_err(&value.to_string()).to_string()
}

#[test]
fn short_forms_mean_the_full_ones() {
    let friendly = json!({"security_group": {"id": 7, "rules": [
        {"direction": "ingress", "family": "ipv4", "protocol": "tcp", "ports": 80},
        {"direction": "EGRESS", "protocol": 17, "ports": "8000-8010", "remote_security_group": 9},
    ]}});
    let canonical = json!({"securityGroup": {"id": "7", "rules": [
        {"direction": "DIRECTION_INGRESS", "family": 1, "protocol": 6, "ports": {"first": 80, "last": 80}},
        {"direction": "DIRECTION_EGRESS", "protocol": "udp", "ports": {"first": 8000, "last": 8010},
         "remoteSecurityGroup": 9},
    ]}});
    assert_eq!(decoded(&friendly), decoded(&canonical));
    let expected = SecurityGroup {
        id: 7,
        name: String::new(),
        rules: vec![
            SecurityGroupRule {
                direction: Direction::Ingress.into(),
                family: AddressFamily::Ipv4.into(),
                protocol: Some(6),
                ports: Some(PortRange { first: 80, last: 80 }),
                ..Default::default()
            },
            SecurityGroupRule {
                direction: Direction::Egress.into(),
                protocol: Some(17),
                ports: Some(PortRange { first: 8000, last: 8010 }),
                remote: Some(security_group_rule::Remote::RemoteSecurityGroup(9)),
                ..Default::default()
            },
        ],
    };
    assert_eq!(decoded(&friendly).kind, Some(object::Kind::SecurityGroup(expected)));
}

#[test]
fn encapsulations_and_empty_messages_are_understood() {
    let tunnel = decoded(&json!({"next_hop": {"name": "a", "tunnel": {
        "remote": "198.18.0.2", "encapsulations": ["vxlan", "mpls_udp", "mpls-gre"]}}}));
    let Some(object::Kind::NextHop(NextHop { target: Some(next_hop::Target::Tunnel(tunnel)), .. })) =
        tunnel.kind
    else {
        panic!("not a tunnel");
    };
    assert_eq!(tunnel.encapsulations, [3, 1, 2]);
    for discard in [json!({}), Value::Null] {
        let object = decoded(&json!({"next_hop": {"name": "a", "discard": discard}}));
        let Some(object::Kind::NextHop(next_hop)) = object.kind else { panic!("not a next hop") };
        assert_eq!(next_hop.target, Some(next_hop::Target::Discard(DiscardNextHop {})));
    }
}

#[test]
fn mistakes_are_named_with_their_field() {
    let cases = [
        (json!({"vrf": {"name": 7}}), "vrf.name: must be text, but 7 reads as a number: put it in quotes"),
        (
            json!({"vrf": {"name": true}}),
            "vrf.name: must be text, but this word reads as true: put it in quotes",
        ),
        (
            json!({"vrf": {"import_route_targets": "1:1"}}),
            "vrf.import_route_targets: must be a list, such as [a, b], not \"1:1\"",
        ),
        (
            json!({"vrf": {"import_route_targets": ["1:1", 2]}}),
            "vrf.import_route_targets[1]: must be text, but 2 reads as a number: put it in quotes",
        ),
        (
            json!({"port": {"role": "fabrik"}}),
            "port.role: must be one of fabric, tenant, host, not \"fabrik\"",
        ),
        (
            json!({"security_group": {"rules": [{"protocol": "ipx"}]}}),
            "security_group.rules[0].protocol: must be icmp, tcp, udp, icmpv6, sctp or an IP protocol number, \
             not \"ipx\"",
        ),
        (
            json!({"security_group": {"rules": [{"ports": "80-"}]}}),
            "security_group.rules[0].ports: must be a port or a range such as 8000-8010, not \"80-\"",
        ),
        (
            json!({"next_hop": {"vrf": "red", "discard": {}}}),
            "next_hop.discard: cannot be given together with vrf",
        ),
        (
            json!({"next_hop": {"discard": {"x": 1}}}),
            "next_hop.discard.x: no such field; nothing can be given here",
        ),
        (json!({"vrf": {}, "port": {}}), "port: cannot be given together with vrf"),
        (
            json!({"vrf": {"routerMac": "a", "router_mac": "b"}}),
            "vrf.router_mac: is given twice, also as routerMac",
        ),
        (
            json!({}),
            "holds no object; it must have one of port, interface, vrf, next_hop, next_hop_group, route, \
             security_group, static_route",
        ),
        (json!("vrf"), "must be an object such as `vrf: {name: red}`, not \"vrf\""),
        (json!({"vrf": {"label": -1}}), "vrf.label: must be a whole number from 0 to 4294967295, not -1"),
        (
            json!({"interface": {"anti_spoofing_disabled": "yes"}}),
            "interface.anti_spoofing_disabled: must be true or false, not \"yes\"",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(problem(&value), expected);
    }
}

#[test]
fn status_and_holders_are_shown_and_ignored_when_read() {
    let item = ObjectWithStatus {
        object: Some(Object {
            kind: Some(object::Kind::Vrf(Vrf { name: "red".into(), ..Default::default() })),
        }),
        status: Some(ObjectStatus {
            state: ObjectState::Waiting.into(),
            waits_for: vec![ObjectKey { kind: Some(object_key::Kind::Port("eth0".into())) }],
            message: String::new(),
        }),
        holders: vec![Holder { controller: "cluster-a".into(), stale: true, differs: false }],
    };
    let value = encode::object_with_status(&item);
    assert_eq!(
        documents::to_yaml(std::slice::from_ref(&value)).expect("YAML"),
        "vrf:\n  name: red\nstatus:\n  state: waiting\n  waits_for:\n  - port/eth0\nholders:\n- controller: cluster-a\n  stale: true\n"
    );
    assert_eq!(Some(decoded(&value)), item.object);
}

#[test]
fn replies_show_their_zeros() {
    let reply =
        RouteEntry { prefix: "::/0".into(), origin: RouteOrigin::Static.into(), ..Default::default() };
    assert_eq!(
        encode::reply(&reply).to_string(),
        r#"{"prefix":"::/0","origin":"static","next_hop":"","via":"","rd":"","security_groups":[],"paths":0}"#
    );
}

#[test]
fn keys_and_bytes_are_texts() {
    let route = ObjectKey {
        kind: Some(object_key::Kind::Route(RouteKey { rd: "64512:1".into(), prefix: "10.0.0.0/8".into() })),
    };
    let change = ObjectChange { key: Some(route), change: Change::Added.into() };
    assert_eq!(encode::reply(&change).to_string(), r#"{"key":"route/64512:1 10.0.0.0/8","change":"added"}"#);
    let prefixes = RoutePrefixes { ipv4: vec![10, 0, 0, 0, 8], ..Default::default() };
    assert_eq!(encode::object(&prefixes).to_string(), r#"{"ipv4":"0a00000008"}"#);
}

/// The types that the two directions know are all that the API has.
#[test]
fn the_api_has_only_types_that_can_be_written() {
    fn visit(descriptor: &MessageDescriptor, seen: &mut HashSet<String>, read: bool) {
        if !seen.insert(descriptor.full_name().to_owned()) {
            return;
        }
        for field in descriptor.fields() {
            assert!(!field.is_map(), "{}", field.full_name());
            match field.kind() {
                Kind::Message(inner) => visit(&inner, seen, read),
                Kind::String | Kind::Bool | Kind::Uint32 | Kind::Enum(_) => {}
                Kind::Uint64 | Kind::Int32 | Kind::Bytes => assert!(!read, "{}", field.full_name()),
                kind => panic!("{}: {kind:?}", field.full_name()),
            }
        }
    }
    visit(&Object::default().descriptor(), &mut HashSet::new(), true);
    for file in Object::default().descriptor().parent_pool().files() {
        for message in file.messages().filter(|message| message.package_name() == "tieline.v1") {
            visit(&message, &mut HashSet::new(), false);
        }
    }
}

/// Texts as the API has them, and texts that YAML could take for something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._/-]{0,12}",
        "[0-9]{1,5}:[0-9]{1,9}",
        "([0-9a-f]{2}:){5}[0-9a-f]{2}",
        "(10|198)\\.[0-9]{1,3}\\.0\\.0/[0-9]{1,2}",
        Just("true".to_owned()),
        Just("no".to_owned()),
        Just("null".to_owned()),
        Just("~".to_owned()),
        Just("1e3".to_owned()),
        Just("0x10".to_owned()),
        Just("007".to_owned()),
        Just(".inf".to_owned()),
        Just("::".to_owned()),
        "[ -~\n\t\u{e9}]{0,20}",
        any::<String>(),
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..4)
}

/// Known values, and one of an API to come.
fn encapsulations() -> impl Strategy<Value = Vec<i32>> {
    prop::collection::vec(prop_oneof![0..4, Just(99)], 0..4)
}

fn port() -> impl Strategy<Value = object::Kind> {
    (text(), text(), 0..5, any::<u32>(), any::<u32>()).prop_map(|(name, device, role, mtu, rx_queues)| {
        object::Kind::Port(Port { name, device, role, mtu, rx_queues })
    })
}

fn interface() -> impl Strategy<Value = object::Kind> {
    let pair = (text(), text()).prop_map(|(mac, prefix)| AddressPair { mac, prefix });
    let pairs = prop::collection::vec(pair, 0..3);
    let names = (text(), text(), text(), text(), text());
    let neighbour = (text(), text()).prop_map(|(address, mac)| StaticNeighbour { address, mac });
    let lists = (texts(), texts(), numbers(), pairs, prop::collection::vec(neighbour, 0..3));
    (names, lists, any::<u32>(), any::<u32>(), any::<bool>()).prop_map(
        |(names, lists, vlan, mtu, anti_spoofing_disabled)| {
            object::Kind::Interface(Interface {
                name: names.0,
                port: names.1,
                vlan,
                inner_vlan: vlan / 2,
                vrf: names.2,
                local_addresses: lists.0,
                local_mac: names.3.clone(),
                workload_mac: names.4,
                workload_addresses: lists.1,
                security_groups: lists.2,
                allowed_address_pairs: lists.3,
                anti_spoofing_disabled,
                mtu,
                static_neighbours: lists.4,
                tunnel_sources: vec![names.3],
            })
        },
    )
}

fn vrf() -> impl Strategy<Value = object::Kind> {
    (text(), text(), texts(), texts(), any::<u32>(), any::<u32>()).prop_map(
        |(name, rd, import, export, label, vni)| {
            object::Kind::Vrf(Vrf {
                router_mac: rd.clone(),
                name,
                rd,
                import_route_targets: import,
                export_route_targets: export,
                label,
                vni,
                session_quota: label ^ vni,
                session_rate: label.wrapping_add(vni),
                strict_sources: label > vni,
            })
        },
    )
}

fn next_hop() -> impl Strategy<Value = object::Kind> {
    let tunnel =
        (text(), text(), encapsulations(), text()).prop_map(|(remote, local, encapsulations, router_mac)| {
            next_hop::Target::Tunnel(TunnelNextHop { remote, local, encapsulations, router_mac })
        });
    let interface = (text(), text()).prop_map(|(interface, address)| {
        next_hop::Target::Interface(InterfaceNextHop { interface, address })
    });
    let target = prop_oneof![
        tunnel,
        interface,
        text().prop_map(next_hop::Target::Vrf),
        Just(next_hop::Target::Discard(DiscardNextHop {})),
    ];
    (text(), prop::option::of(target))
        .prop_map(|(name, target)| object::Kind::NextHop(NextHop { name, target }))
}

fn next_hop_group() -> impl Strategy<Value = object::Kind> {
    let member = (text(), any::<u32>(), any::<u32>(), any::<u32>())
        .prop_map(|(next_hop, weight, label, vni)| NextHopGroupMember { next_hop, weight, label, vni });
    (text(), prop::collection::vec(member, 0..4))
        .prop_map(|(name, members)| object::Kind::NextHopGroup(NextHopGroup { name, members }))
}

fn route() -> impl Strategy<Value = object::Kind> {
    let texts = (text(), text(), text(), texts());
    let preferences = (prop::option::of(any::<u32>()), any::<u32>(), any::<u32>(), any::<u32>());
    (texts, numbers(), any::<u32>(), any::<u32>(), encapsulations(), preferences).prop_map(
        |(
            texts,
            security_groups,
            label,
            vni,
            encapsulations,
            (local_pref, med, as_path_length, mobility_sequence),
        )| {
            object::Kind::Route(Route {
                rd: texts.0,
                prefix: texts.1,
                next_hop: texts.2,
                route_targets: texts.3,
                security_groups,
                label,
                vni,
                encapsulations,
                local_pref,
                med,
                as_path_length,
                mobility_sequence,
            })
        },
    )
}

fn static_route() -> impl Strategy<Value = object::Kind> {
    (text(), text(), text(), numbers(), any::<u32>(), any::<u32>()).prop_map(
        |(vrf, prefix, next_hop, security_groups, label, vni)| {
            object::Kind::StaticRoute(StaticRoute { vrf, prefix, next_hop, security_groups, label, vni })
        },
    )
}

fn rule() -> impl Strategy<Value = SecurityGroupRule> {
    let remote = prop_oneof![
        text().prop_map(security_group_rule::Remote::RemotePrefix),
        any::<u32>().prop_map(security_group_rule::Remote::RemoteSecurityGroup),
    ];
    let protocol = prop_oneof![Just(6u32), Just(17), Just(58), 0..300u32, any::<u32>()];
    let ports = prop_oneof![
        (0..3u32).prop_map(|port| PortRange { first: port, last: port }),
        (any::<u32>(), any::<u32>()).prop_map(|(first, last)| PortRange { first, last }),
    ];
    let icmp = (prop::option::of(any::<u32>()), prop::option::of(any::<u32>()));
    (0..4, 0..4, prop::option::of(protocol), prop::option::of(ports), icmp, prop::option::of(remote))
        .prop_map(|(direction, family, protocol, ports, (icmp_type, icmp_code), remote)| SecurityGroupRule {
            direction,
            family,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote,
        })
}

fn security_group() -> impl Strategy<Value = object::Kind> {
    (any::<u32>(), text(), prop::collection::vec(rule(), 0..4))
        .prop_map(|(id, name, rules)| object::Kind::SecurityGroup(SecurityGroup { id, name, rules }))
}

fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![
        port(),
        interface(),
        vrf(),
        next_hop(),
        next_hop_group(),
        route(),
        security_group(),
        static_route(),
    ]
    .prop_map(|kind| Object { kind: Some(kind) })
}

proptest! {
    #[test]
    fn objects_survive_yaml_and_json(objects in prop::collection::vec(any_object(), 1..4)) {
        let values: Vec<Value> = objects.iter().map(encode::object).collect();
        let yaml = documents::to_yaml(&values).expect("YAML");
        let read = documents::parse(yaml.as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&objects), "{}", yaml);
        let json = serde_json::to_string_pretty(&values).expect("JSON");
        let read = documents::parse(json.as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&objects), "{}", json);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<Vec<u8>>()) {
        let _ = documents::parse(&text);
    }
}
