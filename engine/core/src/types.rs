//! The engine's vocabulary: identifiers that cannot be mistaken for another.

pub use tieline_names::{Label, MacAddr, ParseMacError, Vni};

macro_rules! index_type {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $int);

        impl $name {
            /// The position in a table.
            #[inline]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index_type! {
    /// A port of the engine: one device.
    PortId(u16)
}
index_type! {
    /// A layer 3 interface: a port, or one VLAN of it, attached to a VRF.
    InterfaceId(u32)
}
index_type! {
    /// A VRF. [`VrfId::UNDERLAY`] always exists.
    VrfId(u16)
}
index_type! {
    /// An entry of the next-hop table.
    NextHopId(u32)
}
index_type! {
    /// An entry of the neighbour table.
    NeighbourId(u32)
}
index_type! {
    /// An interned set of security group IDs.
    SgSetId(u32)
}
index_type! {
    /// A worker thread.
    WorkerId(u16)
}

impl InterfaceId {
    /// No interface; never allocated.
    pub const NONE: InterfaceId = InterfaceId(u32::MAX);
}

impl VrfId {
    /// No VRF; never allocated.
    pub const NONE: VrfId = VrfId(u16::MAX);
    /// The VRF of the fabric's own addresses and routes.
    pub const UNDERLAY: VrfId = VrfId(0);
}

impl NextHopId {
    /// The next hop that drops; it always exists.
    pub const DISCARD: NextHopId = NextHopId(0);
}

impl SgSetId {
    /// The empty set; it always exists.
    pub const EMPTY: SgSetId = SgSetId(0);
}

/// A security group ID, as routes carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SgId(pub u32);
