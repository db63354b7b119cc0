//! The forwarding table of one VRF, for people: what each prefix leads to and
//! where that came from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tieline_engine::tables::Tables;
use tieline_engine::tables::vrf::{FibEntry, Vrf};
use tieline_engine::types::{InterfaceId, NeighbourId, NextHopId, VrfId};
use tieline_proto::v1;

use crate::attributes::Origin;
use crate::compile::next_hops::Resolution;
use crate::compile::routes::Choice;
use crate::compile::tunnels::{Encap, TunnelResolution};
use crate::listing::{bad_token, page_length};
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::field;
use crate::spec::interface::ClaimKind;

impl Rib {
    /// A page of forwarding entries, or the one that an address matches.
    ///
    /// # Errors
    /// An unknown VRF, a text that is no address, or a token that was not in
    /// a reply.
    pub fn routes(
        &self,
        request: &v1::ListRoutesRequest,
        tables: &Tables,
    ) -> Result<v1::ListRoutesReply, Refusal> {
        let unknown = || Refusal::invalid("vrf", format!("there is no VRF {}", field::quoted(&request.vrf)));
        let id = self.vrf_id(&request.vrf).ok_or_else(unknown)?;
        let vrf = tables.vrfs.get(id.index()).ok_or_else(unknown)?;
        if !request.address.is_empty() {
            let address = field::parsed(|| "address".to_owned(), &request.address)?;
            let routes =
                longest_match(vrf, address).map(|(prefix, entry)| self.route(id, prefix, entry, tables));
            return Ok(v1::ListRoutesReply { routes: routes.into_iter().collect(), ..Default::default() });
        }
        let start: Option<IpNet> = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| bad_token(token))?),
        };
        let length = page_length(request.page_size);
        // One more than fits says whether another page follows.
        let mut found = entries_after(vrf, start, length + 1);
        let has_more = found.len() > length;
        found.truncate(length);
        let next_page_token = match found.last() {
            Some((last, _)) if has_more => last.to_string(),
            _ => String::new(),
        };
        let routes = found.into_iter().map(|(prefix, entry)| self.route(id, prefix, entry, tables)).collect();
        Ok(v1::ListRoutesReply { routes, next_page_token })
    }

    fn route(&self, vrf: VrfId, prefix: IpNet, entry: FibEntry, tables: &Tables) -> v1::RouteEntry {
        let name = self.vrf_name(vrf).unwrap_or_default();
        let claims = self.store.claims(name, prefix).len();
        let statics = usize::from(self.static_path(name, prefix).is_some());
        let paths = claims + statics + self.imports.candidates(vrf, prefix).len();
        let (origin, next_hop, rd) = match self.choose(vrf, prefix) {
            None => (v1::RouteOrigin::Unspecified, "", None),
            Some((_, Choice::Claim(claim))) => {
                let origin = match claim.kind {
                    ClaimKind::Local => v1::RouteOrigin::Local,
                    ClaimKind::Workload => v1::RouteOrigin::Workload,
                    ClaimKind::Connected => v1::RouteOrigin::Connected,
                };
                (origin, "", None)
            }
            Some((_, Choice::Path(shared))) => {
                let name = self.node_name(&shared.attributes);
                match shared.attributes.origin {
                    Origin::Static(_) => (v1::RouteOrigin::Static, name, None),
                    Origin::Vpn(vpn) => (v1::RouteOrigin::Vpn, name, Some(vpn.rd)),
                }
            }
        };
        v1::RouteEntry {
            prefix: prefix.to_string(),
            origin: origin.into(),
            next_hop: next_hop.to_owned(),
            via: self.via(entry.next_hop, tables),
            rd: rd.map(|rd| rd.to_string()).unwrap_or_default(),
            security_groups: self.sg_set(entry.sg_set).iter().map(|id| id.0).collect(),
            paths: u32::try_from(paths).unwrap_or(u32::MAX),
        }
    }

    /// What a next hop resolves to, in words.
    pub(crate) fn via(&self, id: NextHopId, tables: &Tables) -> String {
        let interface = |id: InterfaceId| self.interface_name(id).unwrap_or_default();
        let neighbour = |id: NeighbourId| {
            let found = tables.neighbours.get(id.index());
            found
                .map(|found| format!("{} on {}", found.address, interface(found.interface)))
                .unwrap_or_default()
        };
        match self.next_hops.resolution(id) {
            None | Some(Resolution::Discard) => "discard".to_owned(),
            Some(Resolution::Unusable(sentence)) => format!("unusable: {sentence}"),
            Some(Resolution::Local(id)) => format!("local on {}", interface(*id)),
            Some(Resolution::Connected(id)) => format!("connected on {}", interface(*id)),
            Some(Resolution::Neighbour(id)) => neighbour(*id),
            Some(Resolution::Vrf(vrf)) => format!("VRF {}", self.vrf_name(*vrf).unwrap_or_default()),
            Some(Resolution::Tunnel(tunnel)) => {
                format!("{} via {}", tunnel_words(tunnel), neighbour(tunnel.neighbour))
            }
            Some(Resolution::Group(members)) => {
                let words: Vec<String> = members
                    .iter()
                    .map(|(member, weight)| match weight {
                        1 => self.via(*member, tables),
                        weight => format!("{weight} x {}", self.via(*member, tables)),
                    })
                    .collect();
                format!("one of: {}", words.join("; "))
            }
        }
    }
}

fn tunnel_words(tunnel: &TunnelResolution) -> String {
    let encap = match tunnel.encap {
        Encap::MplsUdp(label) => format!("MPLS-in-UDP label {}", label.value()),
        Encap::MplsGre(label) => format!("MPLS-in-GRE label {}", label.value()),
        Encap::Vxlan(vni, router_mac) => format!("VXLAN VNI {} to {router_mac}", vni.value()),
    };
    format!("{encap} from {} to {} (MTU {})", tunnel.source, tunnel.remote, tunnel.inner_mtu)
}

fn longest_match(vrf: &Vrf, address: IpAddr) -> Option<(IpNet, FibEntry)> {
    match address {
        IpAddr::V4(address) => {
            let (prefix, length, entry) = vrf.fib4.lookup_prefix(u32::from(address))?;
            Some((net4(prefix, length)?, entry))
        }
        IpAddr::V6(address) => {
            let (prefix, length, entry) = vrf.fib6.lookup_prefix(u128::from(address))?;
            Some((net6(prefix, length)?, entry))
        }
    }
}

/// Up to `count` entries behind `start`: IPv4, then IPv6.
fn entries_after(vrf: &Vrf, start: Option<IpNet>, count: usize) -> Vec<(IpNet, FibEntry)> {
    let (from4, from6) = match start {
        None => (Some((0, 0)), (0, 0)),
        Some(IpNet::V4(net)) => (Some((u32::from(net.network()), net.prefix_len())), (0, 0)),
        Some(IpNet::V6(net)) => (None, (u128::from(net.network()), net.prefix_len())),
    };
    let is_behind = |(net, _): &(IpNet, FibEntry)| start.is_none_or(|start| *net != start);
    let mut found: Vec<(IpNet, FibEntry)> = Vec::new();
    if let Some((prefix, length)) = from4 {
        let entries = vrf.fib4.iter_from(prefix, length);
        let entries = entries.filter_map(|(prefix, length, entry)| Some((net4(prefix, length)?, entry)));
        found.extend(entries.filter(is_behind).take(count));
    }
    let entries = vrf.fib6.iter_from(from6.0, from6.1);
    let entries = entries.filter_map(|(prefix, length, entry)| Some((net6(prefix, length)?, entry)));
    let room = count - found.len();
    found.extend(entries.filter(is_behind).take(room));
    found
}

fn net4(prefix: u32, length: u8) -> Option<IpNet> {
    Ipv4Net::new(Ipv4Addr::from(prefix), length).ok().map(IpNet::V4)
}

fn net6(prefix: u128, length: u8) -> Option<IpNet> {
    Ipv6Net::new(Ipv6Addr::from(prefix), length).ok().map(IpNet::V6)
}
