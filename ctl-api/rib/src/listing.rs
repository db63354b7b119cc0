//! Reading declared objects back, one or a page at a time.

use std::ops::Bound::{Excluded, Unbounded};

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::key::Key;
use crate::name::Name;
use crate::paths::{Origin, Path};
use crate::rd::RouteDistinguisher;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::next_hop::Definition;
use crate::spec::{Encapsulation, TunnelUse, field};

/// Entries of a page whose request states no size.
const DEFAULT_PAGE: usize = 1000;
/// Most entries of a page.
const MAX_PAGE: usize = 10_000;

/// How many entries a page has.
pub(crate) fn page_length(requested: u32) -> usize {
    match requested as usize {
        0 => DEFAULT_PAGE,
        length => length.min(MAX_PAGE),
    }
}

/// A token that no reply can have carried.
pub(crate) fn bad_token(token: &str) -> Refusal {
    Refusal::invalid(
        "page_token",
        format!("{} is not from a reply: start with an empty one", field::quoted(token)),
    )
}

impl Rib {
    /// One object and its status. `None` if it is not declared.
    pub fn get(&self, key: &v1::ObjectKey) -> Option<v1::ObjectWithStatus> {
        self.item(&Key::parse(key).ok()?)
    }

    fn item(&self, key: &Key) -> Option<v1::ObjectWithStatus> {
        let object = v1::Object { kind: Some(self.message(key)?) };
        Some(v1::ObjectWithStatus { object: Some(object), status: Some(self.status(key)) })
    }

    fn message(&self, key: &Key) -> Option<Kind> {
        Some(match key {
            Key::Port(name) => Kind::Port(self.store.ports.get(name)?.message.clone()),
            Key::Interface(name) => Kind::Interface(self.store.interfaces.get(name)?.message.clone()),
            Key::Vrf(name) => Kind::Vrf(self.store.vrfs.get(name)?.message.clone()),
            Key::NextHop(name) | Key::NextHopGroup(name) => {
                let declared = self.nodes.declared(name.as_str())?;
                let is_group = matches!(declared.definition, Definition::Group(_));
                if is_group != matches!(key, Key::NextHopGroup(_)) {
                    return None;
                }
                declared.message.clone()
            }
            Key::Route(rd, prefix) => Kind::Route(self.route_message(*rd, self.vpn_path(*rd, *prefix)?)),
            Key::SecurityGroup(id) => {
                Kind::SecurityGroup(self.store.security_groups.get(id)?.message.clone())
            }
            Key::StaticRoute(vrf, prefix) => {
                Kind::StaticRoute(self.static_message(vrf, self.static_path(vrf.as_str(), *prefix)?))
            }
        })
    }

    /// Objects of one kind in the order of their keys, from the token on.
    ///
    /// # Errors
    /// A kind that does not exist, or a token that was not in a reply.
    pub fn list(&self, kind: v1::ObjectKind, page_size: u32, token: &str) -> Result<v1::ListReply, Refusal> {
        if !token.is_empty() && !is_token(kind, token) {
            return Err(bad_token(token));
        }
        let length = page_length(page_size);
        // One more than fits says whether another page follows.
        let mut keys = self.keys_after(kind, token, length + 1)?;
        let has_more = keys.len() > length;
        keys.truncate(length);
        let next_page_token = match keys.last() {
            Some(last) if has_more => token_of(last),
            _ => String::new(),
        };
        let items = keys.iter().filter_map(|key| self.item(key)).collect();
        Ok(v1::ListReply { items, next_page_token })
    }

    fn keys_after(&self, kind: v1::ObjectKind, token: &str, count: usize) -> Result<Vec<Key>, Refusal> {
        let after = (Excluded(token), Unbounded);
        let nodes = |group: bool| {
            self.nodes
                .declared_after(token)
                .filter(move |(_, declared)| matches!(declared.definition, Definition::Group(_)) == group)
        };
        let keys = match kind {
            v1::ObjectKind::Unspecified => {
                return Err(Refusal::invalid("kind", "no kind: state which objects to list"));
            }
            v1::ObjectKind::Port => {
                let ports = self.store.ports.range::<str, _>(after);
                ports.map(|(name, _)| Key::Port(name.clone())).take(count).collect()
            }
            v1::ObjectKind::Interface => {
                let interfaces = self.store.interfaces.range::<str, _>(after);
                interfaces.map(|(name, _)| Key::Interface(name.clone())).take(count).collect()
            }
            v1::ObjectKind::Vrf => {
                let vrfs = self.store.vrfs.range::<str, _>(after);
                vrfs.map(|(name, _)| Key::Vrf(name.clone())).take(count).collect()
            }
            v1::ObjectKind::NextHop => {
                nodes(false).map(|(name, _)| Key::NextHop(name.clone())).take(count).collect()
            }
            v1::ObjectKind::NextHopGroup => {
                nodes(true).map(|(name, _)| Key::NextHopGroup(name.clone())).take(count).collect()
            }
            v1::ObjectKind::Route => self.route_keys_after(token, count),
            v1::ObjectKind::SecurityGroup => {
                let start = token.parse().map_or(SgId(0), SgId);
                let groups = self.store.security_groups.range((Excluded(start), Unbounded));
                groups.map(|(id, _)| Key::SecurityGroup(*id)).take(count).collect()
            }
            v1::ObjectKind::StaticRoute => self.static_keys_after(token, count),
        };
        Ok(keys)
    }

    fn route_keys_after(&self, token: &str, count: usize) -> Vec<Key> {
        let start = parse_route_token(token).map_or(Unbounded, Excluded);
        let routes = self.paths.vpn.range((start, Unbounded));
        routes.map(|((rd, prefix), _)| Key::Route(*rd, *prefix)).take(count).collect()
    }

    fn static_keys_after(&self, token: &str, count: usize) -> Vec<Key> {
        let last = parse_static_token(token);
        let (vrf, prefix) = last.map_or(("", None), |(vrf, prefix)| (vrf, Some(prefix)));
        let rest_of_vrf = prefix.and_then(|prefix| {
            let (name, of_vrf) = self.paths.statics.get_key_value(vrf)?;
            Some(of_vrf.range((Excluded(prefix), Unbounded)).map(move |(prefix, _)| (name, prefix)))
        });
        let others = self
            .paths
            .statics
            .range::<str, _>((Excluded(vrf), Unbounded))
            .flat_map(|(name, of_vrf)| of_vrf.keys().map(move |prefix| (name, prefix)));
        rest_of_vrf
            .into_iter()
            .flatten()
            .chain(others)
            .map(|(name, prefix)| Key::StaticRoute(name.clone(), *prefix))
            .take(count)
            .collect()
    }

    fn route_message(&self, rd: RouteDistinguisher, path: &Path) -> v1::Route {
        let tunnel_use = self.uses.get(path.tunnel_use.0).copied().unwrap_or_default();
        let targets = match path.origin {
            Origin::Vpn { targets, .. } => self.imports.set(targets),
            Origin::Static(_) => &[],
        };
        v1::Route {
            rd: rd.to_string(),
            prefix: path.prefix.to_string(),
            route_targets: targets.iter().map(ToString::to_string).collect(),
            security_groups: self.sg_numbers(path),
            next_hop: self.node_name(path).to_owned(),
            label: tunnel_use.label.map_or(0, |label| label.value()),
            vni: tunnel_use.vni.map_or(0, |vni| vni.value()),
            encapsulations: encapsulation_numbers(tunnel_use),
            local_pref: path.states_local_pref.then_some(path.local_pref),
            med: path.med,
        }
    }

    fn static_message(&self, vrf: &Name, path: &Path) -> v1::StaticRoute {
        let tunnel_use = self.uses.get(path.tunnel_use.0).copied().unwrap_or_default();
        v1::StaticRoute {
            vrf: vrf.to_string(),
            prefix: path.prefix.to_string(),
            next_hop: self.node_name(path).to_owned(),
            security_groups: self.sg_numbers(path),
            label: tunnel_use.label.map_or(0, |label| label.value()),
            vni: tunnel_use.vni.map_or(0, |vni| vni.value()),
        }
    }

    fn sg_numbers(&self, path: &Path) -> Vec<u32> {
        self.sg_set(path.sg_set).iter().map(|id| id.0).collect()
    }

    /// The name that a path has as its next hop.
    pub(crate) fn node_name(&self, path: &Path) -> &str {
        self.nodes.get(path.node).map_or("", |node| node.name.as_str())
    }
}

fn encapsulation_numbers(tunnel_use: TunnelUse) -> Vec<i32> {
    let number = |encapsulation| {
        match encapsulation {
            Encapsulation::MplsUdp => v1::Encapsulation::MplsUdp,
            Encapsulation::MplsGre => v1::Encapsulation::MplsGre,
            Encapsulation::Vxlan => v1::Encapsulation::Vxlan,
        }
        .into()
    };
    tunnel_use.encapsulations.iter().map(number).collect()
}

/// The last key of a page, as the token for the next.
fn token_of(key: &Key) -> String {
    match key {
        Key::Port(name)
        | Key::Interface(name)
        | Key::Vrf(name)
        | Key::NextHop(name)
        | Key::NextHopGroup(name) => name.to_string(),
        Key::Route(rd, prefix) => format!("{rd} {prefix}"),
        Key::SecurityGroup(id) => id.0.to_string(),
        Key::StaticRoute(vrf, prefix) => format!("{vrf} {prefix}"),
    }
}

fn is_token(kind: v1::ObjectKind, token: &str) -> bool {
    match kind {
        v1::ObjectKind::Route => parse_route_token(token).is_some(),
        v1::ObjectKind::StaticRoute => parse_static_token(token).is_some(),
        v1::ObjectKind::SecurityGroup => token.parse::<u32>().is_ok(),
        _ => Name::is_valid(token),
    }
}

fn parse_route_token(token: &str) -> Option<(RouteDistinguisher, IpNet)> {
    let (rd, prefix) = token.split_once(' ')?;
    Some((rd.parse().ok()?, prefix.parse().ok()?))
}

fn parse_static_token(token: &str) -> Option<(&str, IpNet)> {
    let (vrf, prefix) = token.split_once(' ')?;
    Some((vrf, prefix.parse().ok()?))
}
