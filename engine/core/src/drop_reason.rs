//! Why a packet was dropped: one name for each reason, and its sentence.

macro_rules! drop_reasons {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $sentence:literal; )*) => {
        /// Why a packet was dropped. Every drop has exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $( #[doc = $sentence] $(#[$doc])* $variant, )*
        }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [DropReason] = &[ $( DropReason::$variant, )* ];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable identifier, as APIs and scripts use it.
            pub fn name(self) -> &'static str {
                match self { $( DropReason::$variant => $name, )* }
            }

            /// A sentence for an operator.
            pub fn description(self) -> &'static str {
                match self { $( DropReason::$variant => $sentence, )* }
            }
        }
    };
}

drop_reasons! {
    // Parse: the bytes are not what they claim to be.
    TruncatedEthernet = "truncated_ethernet", "Frame shorter than its Ethernet header.";
    TooManyVlanTags = "too_many_vlan_tags", "More than two VLAN tags.";
    UnknownEtherType = "unknown_ethertype", "Neither IPv4, IPv6 nor ARP.";
    TruncatedIp = "truncated_ip", "Frame shorter than its IP header, or than the length that the header states.";
    BadIpVersion = "bad_ip_version", "IP version does not match the EtherType.";
    BadIpHeaderLength = "bad_ip_header_length", "IP header or total length smaller than possible.";
    BadIpChecksum = "bad_ip_checksum", "IPv4 header checksum is wrong.";
    BadIpOptions = "bad_ip_options", "IPv4 source routing, or options that overrun the header.";
    BadExtensionHeaders = "bad_extension_headers", "IPv6 extension headers that overrun the packet, are out of order, or are too many.";
    TruncatedL4 = "truncated_l4", "Packet shorter than its TCP, UDP or ICMP header, or lengths that contradict each other.";
    BadFragment = "bad_fragment", "Fragment with an impossible offset or length, or one that overlaps headers.";
    MartianSource = "martian_source", "Source address that no host can have (multicast, loopback, unspecified).";
    MartianDestination = "martian_destination", "Destination address that is never routed (loopback, unspecified, link-local).";

    // Classify: whose packet is it.
    UnknownVlan = "unknown_vlan", "No interface for this VLAN on the port.";
    NotOurMac = "not_our_mac", "Frame is for another station.";
    MulticastNotRouted = "multicast_not_routed", "Multicast or broadcast that is not forwarded.";
    SpoofedMac = "spoofed_mac", "Source MAC is not the interface's own and in no allowed pair.";
    SpoofedIp = "spoofed_ip", "Source address is not the interface's own and in no allowed pair.";
    OwnSource = "own_source", "Source address that is one of our own: forged, or another station has our address.";
    BadNeighbourMessage = "bad_neighbour_message", "ARP or ND message that is malformed or breaks a rule of RFC 826 or RFC 4861.";
    NotForUs = "not_for_us", "From the fabric, but neither in a tunnel nor for an underlay address.";
    NoHostPort = "no_host_port", "For the host, but there is no host port.";

    // Decapsulation.
    UnknownTunnelSource = "unknown_tunnel_source", "Tunnel packet from an address that is neither a next hop's nor in the interface's tunnel_sources.";
    StrayInnerSource = "stray_inner_source", "Out of a tunnel to whose other end the VRF has no route back to the packet's source; the VRF asks for one.";
    UnknownLabel = "unknown_label", "MPLS label that no VRF has.";
    BadLabelStack = "bad_label_stack", "MPLS label stack that is truncated, too deep, or without its end.";
    BadMplsPayload = "bad_mpls_payload", "What follows the MPLS label is neither IPv4 nor IPv6.";
    MplsTtlExpired = "mpls_ttl_expired", "MPLS TTL is zero.";
    BadGreHeader = "bad_gre_header", "GRE header with flags or a version that is not supported, or not carrying MPLS.";
    BadVxlanHeader = "bad_vxlan_header", "VXLAN header without a valid VNI flag, or truncated.";
    UnknownVni = "unknown_vni", "VNI that no VRF has.";
    NotOurRouterMac = "not_our_router_mac", "VXLAN inner frame that is not for the router's MAC.";
    BadOuterChecksum = "bad_outer_checksum", "UDP or GRE checksum of the tunnel is wrong.";
    EcnNotCapable = "ecn_not_capable", "The underlay marked congestion on a packet whose ends do not understand it (RFC 6040).";
    OuterFragment = "outer_fragment", "Tunnel packet that the underlay fragmented; raise the underlay's MTU.";
    NestedTunnel = "nested_tunnel", "Tunnel packet addressed to a gateway address inside a tenant's VRF.";

    // Routing.
    NoRoute = "no_route", "No route to the destination in the VRF.";
    DiscardRoute = "discard_route", "The matching route says discard.";
    TtlExpired = "ttl_expired", "TTL or hop limit ran out.";
    RoutingLoop = "routing_loop", "More than one step from VRF to VRF.";
    NextHopUnusable = "next_hop_unusable", "The next hop cannot be used: no route to the tunnel's remote, or its interface is gone.";
    PacketTooBig = "packet_too_big", "Larger than the path allows, and must not be fragmented.";
    NeighbourUnresolved = "neighbour_unresolved", "The neighbour did not answer ARP or ND.";
    NeighbourQueueFull = "neighbour_queue_full", "Too many packets wait for neighbours already.";
    LocalNotServed = "local_not_served", "For a gateway address, but no service answers there.";
    HairpinToHost = "hairpin_to_host", "From the host port to an address of the host itself.";

    // Policy and sessions.
    SgDeniedIngress = "sg_denied_ingress", "No security group rule allows it into the destination's interface.";
    SgDeniedEgress = "sg_denied_egress", "No security group rule allows it out of the source's interface.";
    SessionTableFull = "session_table_full", "The worker's session table is full, and its VRF has its share of it.";
    SessionQuota = "session_quota", "The VRF has used up its quota of sessions.";
    SessionRate = "session_rate", "The VRF begins sessions faster than its rate allows.";
    SessionConflict = "session_conflict", "Its replies could not be told from those of another session.";
    TcpInvalidState = "tcp_invalid_state", "TCP segment that belongs to no session and opens none.";
    IcmpNoSession = "icmp_no_session", "ICMP error or reply that belongs to no session.";
    FragmentBeforeFirst = "fragment_before_first", "Fragment whose first fragment was not seen in the last two seconds.";
    FragmentTableFull = "fragment_table_full", "Too many fragmented packets at once.";

    // Leaving.
    NoHeadroom = "no_headroom", "Buffer without room for the encapsulation.";
    NoBuffer = "no_buffer", "Buffer pool is empty.";
    MultiSegment = "multi_segment", "Frame larger than one buffer.";
    HandoverRingFull = "handover_ring_full", "The ring to the worker that owns the session or queue is full.";
    OriginatedFull = "originated_full", "Too many replies, errors or fragments were made in one burst.";
    LocalRingFull = "local_ring_full", "Too many packets wait for the neighbour service.";
    TxQueueFull = "tx_queue_full", "The transmit queue took no more.";
    TxPortGone = "tx_port_gone", "The port was removed while the packet was on its way.";
    IcmpRateLimited = "icmp_rate_limited", "An echo request or a neighbour message above the rate limit.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_stable_identifiers_with_a_sentence() {
        let mut seen = HashSet::new();
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            let name = reason.name();
            assert!(seen.insert(name), "{name} stands twice");
            assert!(
                name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'),
                "{name}"
            );
            assert!(reason.description().ends_with('.'), "{name}");
        }
    }
}
