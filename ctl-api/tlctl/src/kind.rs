//! Kinds of objects, and the keys that name them: `vrf/red`,
//! `route/64512:1 10.0.0.0/8`.

use clap::ValueEnum;
use tieline_proto::v1::{Object, ObjectKey, ObjectKind, RouteKey, StaticRouteKey, object, object_key};

use crate::error::Error;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A DPDK port
    #[value(aliases = ["ports"])]
    Port,
    /// A layer 3 attachment to a port or VLAN (if)
    #[value(aliases = ["interfaces", "if", "ifs"])]
    Interface,
    /// A tenant's routing table
    #[value(aliases = ["vrfs"])]
    Vrf,
    /// Where packets go (nh)
    #[value(aliases = ["next-hops", "next_hop", "next_hops", "nexthop", "nexthops", "nh", "nhs"])]
    NextHop,
    /// A spread over several next hops (nhg)
    #[value(aliases = ["next-hop-groups", "next_hop_group", "next_hop_groups", "nhg", "nhgs"])]
    NextHopGroup,
    /// A VPN path
    #[value(aliases = ["routes"])]
    Route,
    /// What may enter and leave interfaces (sg)
    #[value(aliases = ["security-groups", "security_group", "security_groups", "sg", "sgs"])]
    SecurityGroup,
    /// A route of one VRF (sr)
    #[value(aliases = ["static-routes", "static_route", "static_routes", "sr", "srs"])]
    StaticRoute,
}

impl Kind {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Interface => "interface",
            Self::Vrf => "vrf",
            Self::NextHop => "next-hop",
            Self::NextHopGroup => "next-hop-group",
            Self::Route => "route",
            Self::SecurityGroup => "security-group",
            Self::StaticRoute => "static-route",
        }
    }

    /// The kind in the API.
    pub fn object_kind(self) -> ObjectKind {
        match self {
            Self::Port => ObjectKind::Port,
            Self::Interface => ObjectKind::Interface,
            Self::Vrf => ObjectKind::Vrf,
            Self::NextHop => ObjectKind::NextHop,
            Self::NextHopGroup => ObjectKind::NextHopGroup,
            Self::Route => ObjectKind::Route,
            Self::SecurityGroup => ObjectKind::SecurityGroup,
            Self::StaticRoute => ObjectKind::StaticRoute,
        }
    }

    /// The words that a key of this kind consists of.
    fn key_words(self) -> &'static [&'static str] {
        match self {
            Self::Route => &["RD", "PREFIX"],
            Self::StaticRoute => &["VRF", "PREFIX"],
            Self::SecurityGroup => &["ID"],
            _ => &["NAME"],
        }
    }

    /// Reads the words of one or several keys.
    pub fn parse_keys(self, words: &[String]) -> Result<Vec<ObjectKey>, Error> {
        let expected = self.key_words();
        let keys = words.chunks_exact(expected.len());
        if !keys.remainder().is_empty() {
            return Err(Error::Usage(format!(
                "a {} is named by {}: `{} {}`",
                self.name(),
                expected.join(" and "),
                self.name(),
                expected.join(" ")
            )));
        }
        keys.map(|key| self.parse_key(key)).collect()
    }

    fn parse_key(self, words: &[String]) -> Result<ObjectKey, Error> {
        use object_key::Kind as K;
        let first = words[0].clone();
        let kind = match self {
            Self::Port => K::Port(first),
            Self::Interface => K::Interface(first),
            Self::Vrf => K::Vrf(first),
            Self::NextHop => K::NextHop(first),
            Self::NextHopGroup => K::NextHopGroup(first),
            Self::Route => K::Route(RouteKey { rd: first, prefix: words[1].clone() }),
            Self::StaticRoute => K::StaticRoute(StaticRouteKey { vrf: first, prefix: words[1].clone() }),
            Self::SecurityGroup => K::SecurityGroup(first.parse().map_err(|_| {
                Error::Usage(format!("security-group/{first}: a security group is named by its ID, a number"))
            })?),
        };
        Ok(ObjectKey { kind: Some(kind) })
    }
}

/// The key of an object; `None` when the object is of no kind.
pub fn key_of(object: &Object) -> Option<ObjectKey> {
    use object::Kind as O;
    use object_key::Kind as K;
    let kind = match object.kind.as_ref()? {
        O::Port(port) => K::Port(port.name.clone()),
        O::Interface(interface) => K::Interface(interface.name.clone()),
        O::Vrf(vrf) => K::Vrf(vrf.name.clone()),
        O::NextHop(next_hop) => K::NextHop(next_hop.name.clone()),
        O::NextHopGroup(group) => K::NextHopGroup(group.name.clone()),
        O::Route(route) => K::Route(RouteKey { rd: route.rd.clone(), prefix: route.prefix.clone() }),
        O::SecurityGroup(group) => K::SecurityGroup(group.id),
        O::StaticRoute(route) => {
            K::StaticRoute(StaticRouteKey { vrf: route.vrf.clone(), prefix: route.prefix.clone() })
        }
    };
    Some(ObjectKey { kind: Some(kind) })
}

/// A key as people read it, such as `vrf/red`.
pub fn display_key(key: &ObjectKey) -> String {
    use object_key::Kind as K;
    let (kind, name) = match &key.kind {
        None => return "(an object of a kind that this tlctl does not know)".to_owned(),
        Some(K::Port(name)) => (Kind::Port, name.clone()),
        Some(K::Interface(name)) => (Kind::Interface, name.clone()),
        Some(K::Vrf(name)) => (Kind::Vrf, name.clone()),
        Some(K::NextHop(name)) => (Kind::NextHop, name.clone()),
        Some(K::NextHopGroup(name)) => (Kind::NextHopGroup, name.clone()),
        Some(K::Route(key)) => (Kind::Route, format!("{} {}", key.rd, key.prefix)),
        Some(K::SecurityGroup(id)) => (Kind::SecurityGroup, id.to_string()),
        Some(K::StaticRoute(key)) => (Kind::StaticRoute, format!("{} {}", key.vrf, key.prefix)),
    };
    format!("{}/{name}", kind.name())
}

/// Several keys as people read them.
pub fn display_keys(keys: &[ObjectKey]) -> String {
    keys.iter().map(display_key).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn keys_read_as_they_are_written() {
        let cases = [
            (Kind::Port, "eth0", "port/eth0"),
            (Kind::NextHop, "a/b", "next-hop/a/b"),
            (Kind::Route, "64512:1 10.0.0.0/8", "route/64512:1 10.0.0.0/8"),
            (Kind::StaticRoute, "red ::/0", "static-route/red ::/0"),
            (Kind::SecurityGroup, "7", "security-group/7"),
        ];
        for (kind, text, shown) in cases {
            let keys = kind.parse_keys(&words(text)).expect(text);
            assert_eq!(display_keys(&keys), shown);
        }
        let two = Kind::Route.parse_keys(&words("1:1 10.0.0.0/8 1:2 ::/0")).expect("two routes");
        assert_eq!(display_keys(&two), "route/1:1 10.0.0.0/8, route/1:2 ::/0");
    }

    #[test]
    fn wrong_keys_are_explained() {
        let error = |kind: Kind, text: &str| kind.parse_keys(&words(text)).expect_err(text).to_string();
        assert_eq!(error(Kind::Route, "64512:1"), "a route is named by RD and PREFIX: `route RD PREFIX`");
        assert_eq!(
            error(Kind::SecurityGroup, "web"),
            "security-group/web: a security group is named by its ID, a number"
        );
    }
}
