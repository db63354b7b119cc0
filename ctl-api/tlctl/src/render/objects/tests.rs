use tieline_proto::v1::*;

use super::*;

fn ready(kind: object::Kind) -> ObjectWithStatus {
    with_status(kind, ObjectStatus { state: ObjectState::Ready.into(), ..Default::default() })
}

fn with_status(kind: object::Kind, status: ObjectStatus) -> ObjectWithStatus {
    ObjectWithStatus { object: Some(Object { kind: Some(kind) }), status: Some(status), holders: vec![] }
}

fn next_hop(name: &str, target: next_hop::Target) -> ObjectWithStatus {
    ready(object::Kind::NextHop(NextHop { name: name.into(), target: Some(target) }))
}

#[test]
fn ports_and_their_statuses() {
    let fabric = object::Kind::Port(Port {
        name: "fabric0".into(),
        device: "0000:01:00.0".into(),
        role: PortRole::Fabric.into(),
        mtu: 9000,
        rx_queues: 0,
    });
    let down = ObjectStatus {
        state: ObjectState::Degraded.into(),
        message: "the link is down".into(),
        ..Default::default()
    };
    let tenant = object::Kind::Port(Port {
        name: "t0".into(),
        device: "net_tap0".into(),
        role: PortRole::Tenant.into(),
        mtu: 0,
        rx_queues: 2,
    });
    assert_eq!(
        table(Kind::Port, &[ready(fabric), with_status(tenant, down)], false),
        "NAME     DEVICE        ROLE     MTU  RX QUEUES  STATUS\n\
         fabric0  0000:01:00.0  fabric  9000          -  ready\n\
         t0       net_tap0      tenant     -          2  degraded: the link is down\n"
    );
}

#[test]
fn interfaces_wait_for_what_is_missing() {
    let interface = object::Kind::Interface(Interface {
        name: "web".into(),
        port: "t0".into(),
        vlan: 10,
        inner_vlan: 20,
        vrf: "red".into(),
        local_addresses: vec!["10.1.0.1/24".into()],
        workload_addresses: vec!["10.1.0.5".into()],
        security_groups: vec![7, 8],
        ..Default::default()
    });
    let status = ObjectStatus {
        state: ObjectState::Waiting.into(),
        waits_for: vec![ObjectKey { kind: Some(object_key::Kind::Vrf("red".into())) }],
        message: String::new(),
    };
    assert_eq!(
        table(Kind::Interface, &[with_status(interface, status)], false),
        "NAME  PORT  VLAN   VRF  LOCAL ADDRESSES  WORKLOAD  GROUPS  STATUS\n\
         web   t0    10.20  red  10.1.0.1/24      10.1.0.5  7, 8    waits for vrf/red\n"
    );
}

#[test]
fn next_hops_say_where_they_lead() {
    let tunnel = TunnelNextHop {
        remote: "198.18.0.2".into(),
        local: "198.18.0.1".into(),
        encapsulations: vec![3, 1],
        ..Default::default()
    };
    let neighbour = InterfaceNextHop { interface: "up".into(), address: "192.0.2.1".into() };
    let items = [
        next_hop("a", next_hop::Target::Tunnel(tunnel)),
        next_hop("b", next_hop::Target::Interface(neighbour)),
        next_hop("c", next_hop::Target::Vrf("blue".into())),
        next_hop("d", next_hop::Target::Discard(DiscardNextHop {})),
    ];
    assert_eq!(
        table(Kind::NextHop, &items, false),
        "NAME  TARGET                                                   STATUS\n\
         a     tunnel to 198.18.0.2 from 198.18.0.1 by vxlan, mpls_udp  ready\n\
         b     192.0.2.1 on interface up                                ready\n\
         c     lookup in vrf blue                                       ready\n\
         d     discard                                                  ready\n"
    );
}

#[test]
fn groups_routes_and_vrfs() {
    let member = |next_hop: &str, weight| NextHopGroupMember {
        next_hop: next_hop.into(),
        weight,
        ..Default::default()
    };
    let group = object::Kind::NextHopGroup(NextHopGroup {
        name: "g".into(),
        members: vec![member("a", 0), member("b", 3)],
    });
    assert_eq!(
        table(Kind::NextHopGroup, &[ready(group)], false),
        "NAME  MEMBERS  STATUS\n\
         g     a, b x3  ready\n"
    );
    let route = object::Kind::Route(Route {
        rd: "64512:1".into(),
        prefix: "10.0.0.0/8".into(),
        route_targets: vec!["64512:8000001".into()],
        next_hop: "g".into(),
        label: 100,
        ..Default::default()
    });
    assert_eq!(
        table(Kind::Route, &[ready(route)], false),
        "RD       PREFIX      ROUTE TARGETS  NEXT HOP  LABEL  VNI  PREFERENCE  MED  GROUPS  STATUS\n\
         64512:1  10.0.0.0/8  64512:8000001  g           100    -         100    0  -       ready\n"
    );
    let vrf = object::Kind::Vrf(Vrf { name: "red".into(), vni: 5000, ..Default::default() });
    assert_eq!(
        table(Kind::Vrf, &[ready(vrf)], false),
        "NAME  RD  IMPORT  EXPORT  LABEL   VNI  STATUS\n\
         red   -   -       -           -  5000  ready\n"
    );
    let route = object::Kind::StaticRoute(StaticRoute {
        vrf: "red".into(),
        prefix: "::/0".into(),
        next_hop: "a".into(),
        ..Default::default()
    });
    assert_eq!(
        table(Kind::StaticRoute, &[ready(route)], false),
        "VRF  PREFIX  NEXT HOP  LABEL  VNI  GROUPS  STATUS\n\
         red  ::/0    a             -    -  -       ready\n"
    );
}

#[test]
fn one_security_group_shows_its_rules() {
    let group = SecurityGroup {
        id: 7,
        name: "web".into(),
        rules: vec![
            SecurityGroupRule {
                direction: Direction::Ingress.into(),
                family: AddressFamily::Ipv4.into(),
                protocol: Some(6),
                ports: Some(PortRange { first: 8000, last: 8010 }),
                remote: Some(Remote::RemotePrefix("10.0.0.0/8".into())),
                ..Default::default()
            },
            SecurityGroupRule {
                direction: Direction::Ingress.into(),
                protocol: Some(58),
                icmp_type: Some(128),
                remote: Some(Remote::RemoteSecurityGroup(9)),
                ..Default::default()
            },
            SecurityGroupRule { direction: Direction::Egress.into(), ..Default::default() },
        ],
    };
    assert_eq!(
        detail(Kind::SecurityGroup, &[ready(object::Kind::SecurityGroup(group))]),
        "ID  NAME  INGRESS RULES  EGRESS RULES  HOLDERS  STATUS\n \
         7  web               2             1  -        ready\n\
         \n\
         DIRECTION  FAMILY  PROTOCOL  PORTS      REMOTE\n\
         ingress    ipv4    tcp       8000-8010  10.0.0.0/8\n\
         ingress    any     icmpv6    type 128   security-group/9\n\
         egress     any     any       any        any\n"
    );
}

#[test]
fn an_object_of_an_unknown_kind_keeps_its_row() {
    assert_eq!(
        table(Kind::NextHopGroup, &[ObjectWithStatus::default()], false),
        "NAME  MEMBERS  STATUS\n\
         ?     ?        unknown\n"
    );
}
