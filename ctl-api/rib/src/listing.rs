//! Reading declared objects back, one or a page at a time.

use std::ops::Bound::{Excluded, Unbounded};

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::attributes::{Attributes, Origin};
use crate::controllers::ControllerId;
use crate::key::Key;
use crate::paths::PathId;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::next_hop::Definition;
use crate::spec::{Encapsulation, TunnelUse, field};
use tieline_names::Name;
use tieline_names::{RouteDistinguisher, RouteTarget};

/// Entries of a page whose request states no size.
const DEFAULT_PAGE: usize = 1000;
/// Most entries of a page.
const MAX_PAGE: usize = 10_000;

/// Most entries that a page with a filter looks at.
const MOST_LOOKED_AT: usize = 20_000;

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

/// An object in a list: its key, and of a VPN path whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    key: Key,
    by: Option<ControllerId>,
}

impl From<Key> for Listed {
    fn from(key: Key) -> Self {
        Self { key, by: None }
    }
}

impl Rib {
    /// One object and its status. `None` if it is not declared, or not by the
    /// controller that is named.
    pub fn get(&self, key: &v1::ObjectKey, controller: &str) -> Option<v1::ObjectWithStatus> {
        let key = Key::parse(key).ok()?;
        let by = match controller {
            "" => None,
            name => Some(self.controllers.find(name)?),
        };
        match (&key, by) {
            (Key::Route(..), by) => self.item(&Listed { key, by }),
            (_, Some(by)) => {
                self.holders.find(by, &key)?;
                self.item(&key.into())
            }
            (_, None) => self.item(&key.into()),
        }
    }

    fn item(&self, listed: &Listed) -> Option<v1::ObjectWithStatus> {
        let Listed { key, by } = listed;
        let (kind, status, holders) = match key {
            Key::Route(rd, prefix) => {
                let path = match by {
                    Some(by) => self.vpn_keys.get(*by, *rd, *prefix)?,
                    None => self.vpn_path(*rd, *prefix)?,
                };
                let kind = Kind::Route(self.path_message(path)?);
                (kind, self.path_status(path), self.path_holder(path).into_iter().collect())
            }
            key => (self.message(key)?, self.status(key), self.holder_messages(key)),
        };
        let object = v1::Object { kind: Some(kind) };
        Some(v1::ObjectWithStatus { object: Some(object), status: Some(status), holders })
    }

    /// An object in force, other than a VPN path.
    pub(crate) fn message(&self, key: &Key) -> Option<Kind> {
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
            Key::Route(..) => return None,
            Key::SecurityGroup(id) => {
                Kind::SecurityGroup(self.store.security_groups.get(id)?.message.clone())
            }
            Key::StaticRoute(vrf, prefix) => {
                Kind::StaticRoute(self.static_message(vrf, self.static_path(vrf.as_str(), *prefix)?)?)
            }
        })
    }

    /// A page of objects of one kind in the order of their keys. With a filter
    /// a page can be short, or empty, although another follows.
    ///
    /// # Errors
    /// A kind that does not exist, a token that was not in a reply, or a filter
    /// that is not valid.
    pub fn list(&self, request: &v1::ListRequest) -> Result<v1::ListReply, Refusal> {
        let (kind, token) = (request.kind(), request.page_token.as_str());
        if !token.is_empty() && !is_token(kind, token) {
            return Err(bad_token(token));
        }
        let filter = match &request.filter {
            None => None,
            Some(filter) => Some(Filter::parse(filter)?),
        };
        let length = page_length(request.page_size);
        let looked_at = if filter.is_some() { MOST_LOOKED_AT } else { length };
        // One more than fits says whether another page follows.
        let mut listed = self.listed_after(kind, token, looked_at + 1)?;
        let has_more = listed.len() > looked_at;
        listed.truncate(looked_at);
        let mut items = Vec::new();
        let mut last = listed.last();
        let mut is_cut = false;
        for one in &listed {
            let Some(item) = self.item(one) else { continue };
            if filter.as_ref().is_some_and(|filter| !filter.takes(self, &one.key, &item)) {
                continue;
            }
            if items.len() == length {
                is_cut = true;
                break;
            }
            items.push(item);
            if items.len() == length {
                last = Some(one);
            }
        }
        if !is_cut {
            last = listed.last();
        }
        let next_page_token = match last {
            Some(last) if has_more || is_cut => self.token_of(last),
            _ => String::new(),
        };
        Ok(v1::ListReply { items, next_page_token })
    }

    fn listed_after(&self, kind: v1::ObjectKind, token: &str, count: usize) -> Result<Vec<Listed>, Refusal> {
        let after = (Excluded(token), Unbounded);
        let nodes = |group: bool| {
            self.nodes
                .declared_after(token)
                .filter(move |(_, declared)| matches!(declared.definition, Definition::Group(_)) == group)
        };
        let keys: Vec<Key> = match kind {
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
            v1::ObjectKind::Route => return Ok(self.routes_after(token, count)),
            v1::ObjectKind::SecurityGroup => {
                let start = token.parse().map_or(SgId(0), SgId);
                let groups = self.store.security_groups.range((Excluded(start), Unbounded));
                groups.map(|(id, _)| Key::SecurityGroup(*id)).take(count).collect()
            }
            v1::ObjectKind::StaticRoute => self.static_keys_after(token, count),
        };
        Ok(keys.into_iter().map(Listed::from).collect())
    }

    fn routes_after(&self, token: &str, count: usize) -> Vec<Listed> {
        let start = parse_route_token(token);
        let is_behind = |(rd, prefix, by, _): &(_, _, _, _)| start != Some((*rd, *prefix, *by));
        let routes = self.vpn_keys.iter_from(start).filter(is_behind);
        routes
            .map(|(rd, prefix, by, _)| Listed { key: Key::Route(rd, prefix), by: Some(by) })
            .take(count)
            .collect()
    }

    fn static_keys_after(&self, token: &str, count: usize) -> Vec<Key> {
        let last = parse_static_token(token);
        let (vrf, prefix) = last.map_or(("", None), |(vrf, prefix)| (vrf, Some(prefix)));
        let rest_of_vrf = prefix.and_then(|prefix| {
            let (name, of_vrf) = self.static_keys.get_key_value(vrf)?;
            Some(of_vrf.range((Excluded(prefix), Unbounded)).map(move |(prefix, _)| (name, prefix)))
        });
        let others = self
            .static_keys
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

    /// A VPN path as a message.
    pub(crate) fn path_message(&self, path: PathId) -> Option<v1::Route> {
        let path = self.paths.get(path)?;
        let message = self.attributes_message(&self.attributes.get(path.attributes)?.attributes)?;
        Some(v1::Route { prefix: path.prefix.to_string(), ..message })
    }

    /// What VPN paths share, as a message without a prefix.
    pub(crate) fn attributes_message(&self, attributes: &Attributes) -> Option<v1::Route> {
        let Origin::Vpn(vpn) = attributes.origin else { return None };
        let tunnel_use = self.uses.get(attributes.tunnel_use.0).copied().unwrap_or_default();
        Some(v1::Route {
            rd: vpn.rd.to_string(),
            prefix: String::new(),
            route_targets: self.imports.set(vpn.targets).iter().map(ToString::to_string).collect(),
            security_groups: self.sg_numbers(attributes),
            next_hop: self.node_name(attributes).to_owned(),
            label: tunnel_use.label.map_or(0, |label| label.value()),
            vni: tunnel_use.vni.map_or(0, |vni| vni.value()),
            encapsulations: encapsulation_numbers(tunnel_use),
            local_pref: vpn.local_pref,
            med: vpn.med,
            as_path_length: u32::from(vpn.as_path_length),
            mobility_sequence: vpn.mobility,
        })
    }

    /// Whose a VPN path is.
    fn path_holder(&self, path: PathId) -> Option<v1::Holder> {
        let path = self.paths.get(path)?;
        let Origin::Vpn(vpn) = self.attributes.get(path.attributes)?.attributes.origin else { return None };
        Some(v1::Holder {
            controller: self.controllers.name(vpn.controller).to_owned(),
            stale: path.mark != self.controllers.mark(vpn.controller),
            differs: false,
        })
    }

    fn static_message(&self, vrf: &Name, path: PathId) -> Option<v1::StaticRoute> {
        let path = self.paths.get(path)?;
        let attributes = &self.attributes.get(path.attributes)?.attributes;
        let tunnel_use = self.uses.get(attributes.tunnel_use.0).copied().unwrap_or_default();
        Some(v1::StaticRoute {
            vrf: vrf.to_string(),
            prefix: path.prefix.to_string(),
            next_hop: self.node_name(attributes).to_owned(),
            security_groups: self.sg_numbers(attributes),
            label: tunnel_use.label.map_or(0, |label| label.value()),
            vni: tunnel_use.vni.map_or(0, |vni| vni.value()),
        })
    }

    fn sg_numbers(&self, attributes: &Attributes) -> Vec<u32> {
        self.sg_set(attributes.sg_set).iter().map(|id| id.0).collect()
    }

    /// The name of the next hop that routes with these attributes have.
    pub(crate) fn node_name(&self, attributes: &Attributes) -> &str {
        self.nodes.get(attributes.node).map_or("", |node| node.name.as_str())
    }

    /// The last of a page, as the token for the next.
    fn token_of(&self, listed: &Listed) -> String {
        match &listed.key {
            Key::Port(name)
            | Key::Interface(name)
            | Key::Vrf(name)
            | Key::NextHop(name)
            | Key::NextHopGroup(name) => name.to_string(),
            Key::Route(rd, prefix) => {
                format!("{rd} {prefix} {}", listed.by.unwrap_or_default().0)
            }
            Key::SecurityGroup(id) => id.0.to_string(),
            Key::StaticRoute(vrf, prefix) => format!("{vrf} {prefix}"),
        }
    }
}

/// A parsed [`v1::ListFilter`]; `None` takes all.
#[derive(Debug)]
struct Filter {
    controller: Option<Name>,
    vrf: Option<Name>,
    state: Option<v1::ObjectState>,
    within: Option<IpNet>,
    route_target: Option<RouteTarget>,
    next_hop: Option<Name>,
}

impl Filter {
    fn parse(filter: &v1::ListFilter) -> Result<Self, Refusal> {
        let name = |field: &str, text: &str| match text {
            "" => Ok(None),
            text => field::name(field, text).map(Some),
        };
        let state = match v1::ObjectState::try_from(filter.state) {
            Ok(v1::ObjectState::Unspecified) => None,
            Ok(state) => Some(state),
            Err(_) => {
                return Err(Refusal::invalid("filter.state", format!("{} is no state", filter.state)));
            }
        };
        let within = match filter.within.as_str() {
            "" => None,
            text => Some(field::prefix("filter.within", text)?),
        };
        let route_target = match filter.route_target.as_str() {
            "" => None,
            text => Some(field::parsed(|| "filter.route_target".to_owned(), text)?),
        };
        Ok(Self {
            controller: name("filter.controller", &filter.controller)?,
            vrf: name("filter.vrf", &filter.vrf)?,
            state,
            within,
            route_target,
            next_hop: name("filter.next_hop", &filter.next_hop)?,
        })
    }

    fn takes(&self, rib: &Rib, key: &Key, item: &v1::ObjectWithStatus) -> bool {
        let is_of = |name: &Name| item.holders.iter().any(|holder| holder.controller == name.as_str());
        let state = item.status.as_ref().map(v1::ObjectStatus::state);
        self.controller.as_ref().is_none_or(is_of)
            && self.state.is_none_or(|wanted| state == Some(wanted))
            && self.vrf.as_ref().is_none_or(|name| vrf_of(key, item) == Some(name.as_str()))
            && self.within.is_none_or(|outer| match key {
                Key::Route(_, prefix) | Key::StaticRoute(_, prefix) => outer.contains(prefix),
                _ => false,
            })
            && self.route_target.is_none_or(|target| has_target(rib, key, item, target))
            && self.next_hop.as_ref().is_none_or(|name| leads_to(item, name.as_str()))
    }
}

fn kind_of(item: &v1::ObjectWithStatus) -> Option<&Kind> {
    item.object.as_ref()?.kind.as_ref()
}

fn vrf_of<'a>(key: &'a Key, item: &'a v1::ObjectWithStatus) -> Option<&'a str> {
    match (key, kind_of(item)?) {
        (_, Kind::Interface(interface)) => Some(&interface.vrf),
        (Key::Vrf(name) | Key::StaticRoute(name, _), _) => Some(name.as_str()),
        _ => None,
    }
}

fn has_target(rib: &Rib, key: &Key, item: &v1::ObjectWithStatus, target: RouteTarget) -> bool {
    match (key, kind_of(item)) {
        (Key::Vrf(name), _) => {
            let vrf = rib.store.vrfs.get(name);
            vrf.is_some_and(|vrf| vrf.spec.import.contains(&target) || vrf.spec.export.contains(&target))
        }
        (_, Some(Kind::Route(route))) => route.route_targets.iter().any(|text| text.parse() == Ok(target)),
        _ => false,
    }
}

fn leads_to(item: &v1::ObjectWithStatus, name: &str) -> bool {
    match kind_of(item) {
        Some(Kind::Route(route)) => route.next_hop == name,
        Some(Kind::StaticRoute(route)) => route.next_hop == name,
        Some(Kind::NextHopGroup(group)) => group.members.iter().any(|member| member.next_hop == name),
        _ => false,
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

fn is_token(kind: v1::ObjectKind, token: &str) -> bool {
    match kind {
        v1::ObjectKind::Route => parse_route_token(token).is_some(),
        v1::ObjectKind::StaticRoute => parse_static_token(token).is_some(),
        v1::ObjectKind::SecurityGroup => token.parse::<u32>().is_ok(),
        _ => Name::is_valid(token),
    }
}

fn parse_route_token(token: &str) -> Option<(RouteDistinguisher, IpNet, ControllerId)> {
    let mut parts = token.split(' ');
    let key =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, ControllerId(parts.next()?.parse().ok()?));
    parts.next().is_none().then_some(key)
}

fn parse_static_token(token: &str) -> Option<(&str, IpNet)> {
    let (vrf, prefix) = token.split_once(' ')?;
    Some((vrf, prefix.parse().ok()?))
}
