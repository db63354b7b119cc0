//! Next hop: what a routed packet owes to the hop it takes: a resolved
//! neighbour, one less TTL, a size that fits, an MSS that fits.

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_key::Family;
use crate::packet::icmp::IcmpError;
use crate::packet::ip;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::mss::clamp_mss;
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::pipeline::outbox::Unresolved;
use crate::pipeline::vrf_lookup::resolve;
use crate::pipeline::{fragmentation, local};
use crate::tables::Tables;
use crate::tables::neighbour::NeighbourState;
use crate::tables::next_hop::NextHop;
use crate::types::{InterfaceId, NeighbourId};

/// Bytes of an IPv4 and a TCP header without options.
const TCP4_HEADERS: u16 = 40;
/// Bytes of an IPv6 and a TCP header without options.
const TCP6_HEADERS: u16 = 60;

/// Where a packet leaves.
struct Hop {
    neighbour: NeighbourId,
    mtu: u16,
    in_tunnel: bool,
}

/// What becomes of a packet.
enum Step {
    /// It is sent; `meta.scratch` holds its neighbour.
    Send,
    /// It is for an address of ours.
    Local(InterfaceId),
    /// Its neighbour has to be found first.
    Resolve(InterfaceId, std::net::IpAddr),
    /// It has to be cut into pieces of this many bytes.
    Fragment(u16),
    /// It is dropped silently.
    Drop(DropReason),
    /// It is dropped, and its sender is told.
    Refuse(DropReason, IcmpError),
}

/// Makes packets ready to be sent. What stays in the lane has its
/// [`NeighbourId`] in `meta.scratch`; plain packets whose adjacency is ready
/// stay in the burst alone, finished.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    lane.retain(|index| {
        let index = *index;
        if burst.is_plain(index) && finish_plain(cx, burst, index) {
            return false;
        }
        let Some((packet, meta)) = burst.packet(index) else { return false };
        match step(cx.tables, packet, meta) {
            Step::Send => return true,
            Step::Local(interface) => local::deliver(cx, burst, index, interface),
            Step::Resolve(interface, address) => wait_for_neighbour(cx, burst, index, interface, address),
            Step::Fragment(mtu) => fragmentation::run(cx, burst, index, mtu),
            Step::Drop(reason) => cx.drop(burst, index, reason),
            Step::Refuse(reason, error) => cx.drop_with_error(burst, index, reason, error),
        }
        false
    });
}

/// Finishes a plain packet as express does, if its adjacency is ready.
#[inline]
fn finish_plain<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8) -> bool {
    let Some((packet, meta)) = burst.packet(index) else { return false };
    let Some(adjacency) = cx.adjacencies.get(cx.tables, meta.next_hop, &meta.key) else { return false };
    let traffic_class = meta.scratch as u8;
    if meta.ip_length > adjacency.mtu || !adjacency.write(packet, meta, traffic_class) {
        return false;
    }
    meta.scratch = u32::from(adjacency.port.0);
    if let Some(counters) = cx.counters.interface(adjacency.interface) {
        counters.tx.add(packet.bytes().len());
    }
    true
}

#[inline]
fn step<B: PacketBuf>(tables: &Tables, packet: &mut B, meta: &mut PacketMeta) -> Step {
    let hop = match find(tables, meta) {
        Ok(hop) => hop,
        Err(step) => return step,
    };
    if meta.ip_length > hop.mtu {
        return too_big(meta, hop.mtu);
    }
    let own = PacketFlags::FROM_HOST.union(PacketFlags::ORIGINATED);
    if !meta.flags.intersects(own)
        && let Err(reason) =
            ip::decrement_ttl(packet.bytes_mut(), usize::from(meta.l3_offset), meta.key.family)
    {
        return Step::Refuse(reason, IcmpError::TtlExpired);
    }
    if tables.options.clamp_mss && meta.flags.contains(PacketFlags::TCP_SYN) {
        clamp_to_tunnel(tables, packet, meta, &hop);
    }
    meta.scratch = hop.neighbour.0;
    Step::Send
}

/// Makes both directions of a connection fit the tunnel that it takes: on the
/// way in here, and, as the far end may not do so, on the way out.
fn clamp_to_tunnel<B: PacketBuf>(tables: &Tables, packet: &mut B, meta: &PacketMeta, hop: &Hop) {
    let mtu = if hop.in_tunnel {
        hop.mtu
    } else if meta.flags.contains(PacketFlags::DECAPSULATED) {
        let back = meta.key.reversed(meta.key.vrf);
        let route = resolve(tables, &back, meta.flow_hash);
        match route.ok().and_then(|route| tables.next_hops.get(route.next_hop.index())) {
            Some(NextHop::Tunnel(tunnel)) => tunnel.inner_mtu,
            _ => return,
        }
    } else {
        return;
    };
    let headers = match meta.key.family {
        Family::V4 => TCP4_HEADERS,
        Family::V6 => TCP6_HEADERS,
    };
    clamp_mss(packet.bytes_mut(), meta, mtu.saturating_sub(headers));
}

/// The neighbour and the size of the hop, or what to do instead.
#[inline]
fn find(tables: &Tables, meta: &PacketMeta) -> Result<Hop, Step> {
    let unusable = || Step::Drop(DropReason::NextHopUnusable);
    let (neighbour, mtu, in_tunnel) = match tables.next_hops.get(meta.next_hop.index()) {
        Some(NextHop::Tunnel(tunnel)) => (tunnel.neighbour, Some(tunnel.inner_mtu), true),
        Some(NextHop::Neighbour(neighbour)) => (*neighbour, None, false),
        Some(NextHop::Connected(interface)) => {
            let address = meta.key.destination_addr();
            match tables.neighbour_index.get(&(*interface, address)) {
                Some(neighbour) => (*neighbour, None, false),
                None => return Err(Step::Resolve(*interface, address)),
            }
        }
        Some(NextHop::Local(interface)) => return Err(Step::Local(*interface)),
        _ => return Err(unusable()),
    };
    let entry = tables.neighbours.get(neighbour.index()).ok_or_else(unusable)?;
    if entry.state == NeighbourState::Failed {
        // The neighbour service goes on asking.
        return Err(Step::Refuse(DropReason::NeighbourUnresolved, IcmpError::AddressUnreachable));
    }
    if !entry.is_usable() {
        return Err(Step::Resolve(entry.interface, entry.address));
    }
    let mtu = match mtu {
        Some(mtu) => mtu,
        None => tables.interfaces.get(entry.interface.index()).ok_or_else(unusable)?.mtu,
    };
    Ok(Hop { neighbour, mtu, in_tunnel })
}

/// RFC 1191 section 3 and RFC 8200 section 5: what must not be cut is refused
/// with the size that fits; the rest of IPv4 is cut.
fn too_big(meta: &PacketMeta, mtu: u16) -> Step {
    if meta.key.family == Family::V4 && !meta.flags.contains(PacketFlags::DONT_FRAGMENT) {
        return Step::Fragment(mtu);
    }
    Step::Refuse(DropReason::PacketTooBig, IcmpError::FragmentationNeeded { mtu })
}

/// Leaves the packet with the neighbour service; it goes on from the routing
/// decision once the neighbour is known.
fn wait_for_neighbour<I: Io>(
    cx: &mut Context<'_, I>,
    burst: &mut Burst<I::Buf>,
    index: u8,
    interface: InterfaceId,
    address: std::net::IpAddr,
) {
    let mut meta = *burst.meta(index);
    if !cx.limits.allow_resolve(meta.ingress, cx.now) {
        return cx.drop(burst, index, DropReason::NeighbourQueueFull);
    }
    meta.flags.insert(PacketFlags::ALLOWED.union(PacketFlags::UNDECIDED));
    let Some(packet) = burst.take(index) else { return };
    if !cx.out.wait_for_neighbour(Unresolved { interface, address, packet, meta }) {
        cx.counters.drop_at(DropReason::LocalRingFull, Some(meta.ingress), Some(meta.key.vrf));
    }
}
