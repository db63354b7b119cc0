//! Encapsulation: from a packet to its tunnel.

/// What goes between the Ethernet header and the packet.
#[derive(Debug, Clone)]
pub struct EncapHeader {}
