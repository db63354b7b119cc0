//! What the engine needs of a packet buffer.
//!
//! The pipeline is generic over [`PacketBuf`]: the same stages run over DPDK's
//! mbufs and over plain memory.

/// Bytes to leave free in front of a received frame: enough for any
/// encapsulation (outer Ethernet with two VLAN tags 22, IPv6 40, UDP 8,
/// VXLAN 8, inner Ethernet 14), rounded up.
pub const HEADROOM: usize = 128;

/// Most bytes that [`PacketBuf::reframe`] puts in front of a packet: Ethernet
/// with two tags, IPv6, UDP, VXLAN and Ethernet are 92.
pub const FRONT: usize = 96;

/// First bytes of the packet that [`PacketBuf::reframe`] lets be changed: an
/// IPv4 header.
pub const OPENED: usize = 20;

const _: () = assert!(FRONT <= HEADROOM);

/// Whether the device has verified a received packet's IP header checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpChecksum {
    /// The device did not look.
    Unknown,
    /// The device found it right.
    Good,
    /// The device found it wrong.
    Bad,
}

/// An owned, contiguous packet with room in front of and behind its bytes.
///
/// Dropping it returns the memory to its pool.
pub trait PacketBuf: Send + Sized + 'static {
    /// The packet.
    fn bytes(&self) -> &[u8];

    /// The packet, to change.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Bytes that [`prepend`](Self::prepend) can still add.
    fn headroom(&self) -> usize;

    /// Bytes that [`append`](Self::append) can still add.
    fn tailroom(&self) -> usize;

    /// Adds `count` bytes of unspecified content in front. Returns false, and
    /// changes nothing, without headroom for them.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;

    /// Adds `count` bytes of unspecified content at the end. Returns false,
    /// and changes nothing, without tailroom for them.
    #[must_use]
    fn append(&mut self, count: usize) -> bool;

    /// Removes `count` bytes in front.
    ///
    /// # Panics
    /// If the packet is shorter.
    fn advance(&mut self, count: usize);

    /// Shortens the packet to `length` bytes; a shorter one stays as it is.
    fn truncate(&mut self, length: usize);

    /// Keeps `length` bytes from `offset` on and puts the last `front` bytes of
    /// `header` before them. Returns the header's place, all of it, and the
    /// first of the bytes kept, so that what is missing can be filled in. What
    /// stands in that place before the last `front` bytes is not specified, and
    /// no part of the packet.
    ///
    /// `None`, and nothing has changed, if those are not `length` bytes of the
    /// packet, if they are fewer than [`OPENED`], or if there is no room in
    /// front of them for a whole header, short as this one may be.
    #[must_use]
    fn reframe(
        &mut self,
        offset: usize,
        length: usize,
        header: &[u8; FRONT],
        front: usize,
    ) -> Option<&mut [u8; FRONT + OPENED]>;

    /// What the device says of the IP header checksum of the frame as it was
    /// received. It says nothing of the headers inside a tunnel.
    fn ip_checksum(&self) -> IpChecksum {
        IpChecksum::Unknown
    }
}
