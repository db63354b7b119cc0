//! A BGP speaker (RFC 4271) for controllers, with neither clock nor socket
//! inside: time and bytes come in as arguments, messages and events go out.
//!
//! - [`speaker`]: peers and RIBs together; begin here
//! - [`rib`]: paths of all peers, the best ones, the hooks for policy
//! - [`session`]: one peer: connections, timers, what both sides agree on
//! - [`wire`]: messages, attributes, routes, with the error handling of RFC 7606
//! - `net`, with the feature of that name: sockets and a clock, on tokio
//!
//! ```text
//!   bytes --> wire --> session --> rib (in, best, out) --> session --> bytes
//!                                    |
//!                                    +--> events: paths and best paths
//! ```
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr};
//! use std::time::Duration;
//!
//! use tieline_bgp::rib::policy::AcceptAll;
//! use tieline_bgp::session::SessionConfig;
//! use tieline_bgp::speaker::{Action, PeerConfig, Speaker, SpeakerConfig};
//! use tieline_bgp::wire::{Attributes, Label, Nlri, Payload, Route, RouteTarget};
//!
//! // Time is what the caller says it is.
//! let now = Duration::ZERO;
//! let config = SpeakerConfig::new(64512, Ipv4Addr::new(198, 18, 0, 1));
//! let mut speaker = Speaker::new(config, AcceptAll, now);
//!
//! // A gateway's route: its next hop and its label, given together.
//! let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 11]));
//! attributes.extended.push(RouteTarget::as2(64512, 8_000_001).into());
//! let nlri = Nlri::Vpnv4("64512:1".parse()?, "10.1.0.0/24".parse()?);
//! let payload = Payload::labelled(Label::mpls(1001));
//! speaker.announce(attributes, [Route { nlri: nlri.clone(), payload }]);
//! assert!(speaker.rib().best(&nlri).is_some());
//!
//! // The speaker asks for a connection to its peer, and sends the route on it.
//! let session = SessionConfig::new(IpAddr::from([198, 18, 0, 2]), 64513);
//! let peer = speaker.add_peer(now, PeerConfig::new(session))?;
//! assert!(matches!(speaker.poll_action(now), Some(Action::Connect(to)) if to == peer));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "net")]
pub mod net;
pub mod rib;
pub mod session;
pub mod speaker;
pub mod wire;
