//! What goes over the wire: messages, attributes, routes.
//!
//! - [`message`]: framing, KEEPALIVE and ROUTE-REFRESH; [`open`], [`update`],
//!   [`notification`]: the other messages
//! - [`attributes`], [`as_path`], [`community`]: what is said about routes
//! - [`nlri`]: what routes are about; [`family`]: which kind of routes
//!
//! Reading and writing are our own: a relay has to give bytes back as they came,
//! and RFC 7606 asks which routes a damaged attribute concerned, neither of
//! which the codecs at hand tell. One of them (netgauze-bgp-pkt) reads what is
//! written here in the tests, as an independent judge.
//!
//! Nothing here panics on bytes from a peer, and nothing is longer than the
//! message that it came in.

pub mod as_path;
pub mod attributes;
mod attributes_decode;
mod attributes_encode;
pub mod community;
pub mod family;
pub mod message;
pub mod nlri;
mod nlri_codec;
pub mod notification;
pub mod open;
mod reader;
#[cfg(test)]
pub(crate) mod testing;
pub mod update;
#[cfg(test)]
mod update_tests;

pub use as_path::AsPath;
pub use attributes::{Attributes, NextHop, Origin};
pub use community::{Community, Encapsulation, ExtendedCommunity};
pub use family::{Family, FamilySet};
pub use nlri::{Esi, Evpn, Label, Membership, Nlri, Payload, Route};
pub use notification::Notification;
pub use tieline_names::{MacAddr, RouteDistinguisher, RouteTarget};
