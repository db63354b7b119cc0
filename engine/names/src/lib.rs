//! The words of routing, once for all crates: each as the text that people write
//! and as the bytes that stand on a wire.
//!
//! - [`administrator`]: a number under somebody's administration, of which
//!   [`RouteDistinguisher`] and [`RouteTarget`] are made
//! - [`mac`], [`label`], [`vni`]: what a frame or a tunnel bears
//! - [`name`]: what objects of a gateway are called
//! - `text`, with the feature `schema`: for serde and schemas
//! - [`varint`]: numbers in as few bytes as they need
//!
//! A text is read strictly, and each value has one text: what is written reads back
//! as the same value.

pub mod administrator;
pub mod label;
pub mod mac;
pub mod name;
pub mod route_distinguisher;
pub mod route_target;
#[cfg(feature = "schema")]
pub mod text;
pub mod varint;
pub mod vni;

pub use administrator::{Assigned, NotAssigned};
pub use label::Label;
pub use mac::{MacAddr, ParseMacError};
pub use name::Name;
pub use route_distinguisher::RouteDistinguisher;
pub use route_target::RouteTarget;
pub use vni::Vni;
