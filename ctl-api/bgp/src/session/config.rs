//! What a session is told, and what two sides agree on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::wire::message::{EXTENDED_LIMIT, LIMIT};
use crate::wire::open::{Capabilities, GracefulRestart, LongLived, Open};
use crate::wire::update::{DecodeContext, EncodeContext};
use crate::wire::{Family, FamilySet};

/// What the speaker itself is.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The AS of this speaker.
    pub asn: u32,
    /// BGP identifier: unique in the AS, not zero (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Told to peers, for people.
    pub host_name: Option<String>,
}

/// What a session with one peer is told.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Where the peer is: what it is told apart by, and connected to.
    pub address: IpAddr,
    /// The AS that the peer must have.
    pub asn: u32,
    /// Only wait for the peer to connect.
    pub passive: bool,
    /// Hold time to propose: zero, or three seconds and more.
    pub hold_time: Duration,
    /// The session ends when the peer takes no bytes for this long (RFC 9687);
    /// zero is never.
    pub send_hold_time: Duration,
    /// First wait before a connection is tried again. It doubles up to
    /// [`Self::retry_limit`], less a random part of at most a quarter.
    pub retry: Duration,
    /// Longest wait before a connection is tried again.
    pub retry_limit: Duration,
    /// Families to announce. A peer with none of them is refused.
    pub families: FamilySet,
    /// Graceful restart (RFC 4724): for how long the peer should keep routes;
    /// zero announces no restart of one's own.
    pub restart_time: Duration,
    /// The families that graceful restart is announced for, among those of
    /// [`Self::families`].
    pub restart_families: FamilySet,
    /// Long-lived graceful restart (RFC 9494): for how long routes of a lost
    /// peer are kept as a last resort, after its restart time; zero is not.
    pub long_lived_time: Duration,
    /// Announce messages of up to 65535 bytes (RFC 8654).
    pub extended_messages: bool,
}

impl SessionConfig {
    /// The usual times, every family but route target constraint, and no
    /// graceful restart.
    pub fn new(address: IpAddr, asn: u32) -> Self {
        let mut families = FamilySet::ALL;
        families.remove(Family::RouteTarget);
        Self {
            address,
            asn,
            passive: false,
            hold_time: Duration::from_secs(90),
            send_hold_time: Duration::from_secs(480),
            retry: Duration::from_secs(5),
            retry_limit: Duration::from_secs(120),
            families,
            restart_time: Duration::ZERO,
            restart_families: FamilySet::ALL,
            long_lived_time: Duration::ZERO,
            extended_messages: true,
        }
    }

    /// The OPEN of this side. `restarting` is within the restart time of a
    /// start of this speaker.
    pub(super) fn open(&self, local: &LocalConfig, restarting: bool) -> Open {
        let restart_seconds = u16::try_from(self.restart_time.as_secs()).unwrap_or(4095).min(4095);
        let long_seconds = u32::try_from(self.long_lived_time.as_secs()).unwrap_or(u32::MAX).min(0x00ff_ffff);
        let long = |family| LongLived { family, forwarding: true, time: long_seconds };
        // RFC 9494 section 4.2: not without graceful restart.
        let kept = self.families.intersection(self.restart_families);
        let graceful = restart_seconds > 0 || long_seconds > 0;
        Open {
            asn: local.asn,
            hold_time: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: local.router_id,
            capabilities: Capabilities {
                families: Some(self.families),
                route_refresh: true,
                enhanced_refresh: true,
                as4: Some(local.asn),
                extended_messages: self.extended_messages,
                graceful_restart: graceful.then_some(GracefulRestart {
                    restarting,
                    notification: true,
                    time: restart_seconds,
                    families: kept,
                    // The gateways forward without a controller.
                    forwarding: kept,
                }),
                long_lived: if long_seconds > 0 { kept.iter().map(long).collect() } else { Vec::new() },
                host_name: local.host_name.clone(),
            },
        }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// BGP identifier of the peer.
    pub router_id: Ipv4Addr,
    /// The peer is of the same AS.
    pub internal: bool,
    /// Families that both announced.
    pub families: FamilySet,
    /// Both have 4-byte AS numbers.
    pub as4: bool,
    /// Both take messages of up to 65535 bytes.
    pub extended_messages: bool,
    /// The peer sends its routes again when asked.
    pub route_refresh: bool,
    /// Both frame that with begin and end (RFC 7313).
    pub enhanced_refresh: bool,
    /// Hold time; zero is without.
    pub hold_time: Duration,
    /// What the peer said about graceful restart, where this side does too.
    pub graceful_restart: Option<GracefulRestart>,
    /// What the peer said about long-lived graceful restart.
    pub long_lived: Vec<LongLived>,
    /// The peer's host name.
    pub host_name: Option<String>,
}

impl Negotiated {
    pub(super) fn new(mine: &Open, theirs: &Open) -> Self {
        let (ours, peer) = (&mine.capabilities, &theirs.capabilities);
        let default: FamilySet = [Family::Ipv4Unicast].into_iter().collect();
        let both = peer.families.unwrap_or(default).intersection(ours.families.unwrap_or(default));
        Self {
            router_id: theirs.router_id,
            internal: mine.asn == theirs.asn,
            families: both,
            as4: peer.as4.is_some(),
            extended_messages: ours.extended_messages && peer.extended_messages,
            route_refresh: peer.route_refresh,
            enhanced_refresh: peer.enhanced_refresh && peer.route_refresh,
            hold_time: Duration::from_secs(mine.hold_time.min(theirs.hold_time).into()),
            graceful_restart: ours.graceful_restart.as_ref().and(peer.graceful_restart.clone()),
            long_lived: if ours.long_lived.is_empty() { Vec::new() } else { peer.long_lived.clone() },
            host_name: peer.host_name.clone(),
        }
    }

    /// Longest message, in bytes.
    pub const fn limit(&self) -> usize {
        if self.extended_messages { EXTENDED_LIMIT } else { LIMIT }
    }

    /// How updates of the peer are read.
    pub const fn decode_context(&self) -> DecodeContext {
        DecodeContext { as4: self.as4, internal: self.internal, families: self.families }
    }

    /// How updates to the peer are written.
    pub const fn encode_context(&self) -> EncodeContext {
        EncodeContext { as4: self.as4, limit: self.limit() }
    }

    /// For how long the peer wants stale routes of a family kept past its
    /// restart time.
    pub fn long_lived(&self, family: Family) -> Option<Duration> {
        let entry = self.long_lived.iter().find(|entry| entry.family == family)?;
        Some(Duration::from_secs(entry.time.into()))
    }
}
