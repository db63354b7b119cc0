//! OPEN messages (RFC 4271 section 4.2) and the capabilities in them
//! (RFC 5492).
//!
//! A capability that is not known, or that names a family that is not known,
//! is passed over: it takes nothing from the others.

use std::net::Ipv4Addr;

use super::as_path::AS_TRANS;
use super::family::{Family, FamilySet};
use super::message::{Kind, frame};
use super::notification::Notification;
use super::reader::Reader;

/// Graceful restart (RFC 4724, RFC 8538).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GracefulRestart {
    /// The speaker has restarted.
    pub restarting: bool,
    /// Notifications keep routes too (RFC 8538).
    pub notification: bool,
    /// For how long routes are to be kept, in seconds: at most 4095.
    pub time: u16,
    /// The families whose routes are to be kept.
    pub families: FamilySet,
    /// The families whose forwarding state was kept over the restart.
    pub forwarding: FamilySet,
}

/// A family of long-lived graceful restart (RFC 9494).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongLived {
    /// The family.
    pub family: Family,
    /// Its forwarding state was kept.
    pub forwarding: bool,
    /// For how long stale routes are to be kept, in seconds: 24 bits.
    pub time: u32,
}

/// What a speaker can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Families (RFC 4760); `None` when the peer announced none at all, which
    /// is IPv4 unicast.
    pub families: Option<FamilySet>,
    /// Route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Enhanced route refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// 4-byte AS numbers (RFC 6793), with the speaker's own.
    pub as4: Option<u32>,
    /// Extended messages (RFC 8654).
    pub extended_messages: bool,
    /// Graceful restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Long-lived graceful restart (RFC 9494).
    pub long_lived: Vec<LongLived>,
    /// The name of the host, for people.
    pub host_name: Option<String>,
}

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The AS of the sender, in full where it announced 4-byte AS numbers.
    pub asn: u32,
    /// Hold time, in seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// What the sender can do.
    pub capabilities: Capabilities,
}

mod cap {
    pub(super) const MULTIPROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_MESSAGES: u8 = 6;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const AS4: u8 = 65;
    pub(super) const ENHANCED_REFRESH: u8 = 70;
    pub(super) const LONG_LIVED: u8 = 71;
    pub(super) const FQDN: u8 = 73;
}

impl Open {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let capabilities = self.capabilities.encode();
        frame(Kind::Open, out, |out| {
            out.push(4);
            out.extend_from_slice(&u16::try_from(self.asn).unwrap_or(AS_TRANS).to_be_bytes());
            out.extend_from_slice(&self.hold_time.to_be_bytes());
            out.extend_from_slice(&self.router_id.octets());
            // All that this speaker can say fits the one-byte lengths.
            let length = u8::try_from(capabilities.len()).ok().and_then(|length| length.checked_add(2));
            match length {
                Some(length) if length > 2 => {
                    out.extend_from_slice(&[length, 2, length - 2]);
                    out.extend_from_slice(&capabilities);
                }
                _ => out.push(0),
            }
        });
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// The notification of RFC 4271 section 6.2.
    pub fn decode(body: &[u8]) -> Result<Self, Notification> {
        let unspecific = || Notification::new(2, 0, Vec::new(), "OPEN ends too early");
        let mut reader = Reader::new(body);
        let version = reader.u8().ok_or_else(unspecific)?;
        if version != 4 {
            return Err(Notification::new(2, 1, vec![0, 4], format!("version {version}, not 4")));
        }
        let short = reader.u16().ok_or_else(unspecific)?;
        let hold_time = reader.u16().ok_or_else(unspecific)?;
        let router_id = Ipv4Addr::from(reader.array::<4>().ok_or_else(unspecific)?);
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::new(2, 6, Vec::new(), format!("hold time of {hold_time} s")));
        }
        // RFC 6286: any identifier but zero.
        if router_id.is_unspecified() {
            return Err(Notification::new(2, 3, Vec::new(), "BGP identifier 0.0.0.0"));
        }
        let capabilities = parameters(&mut reader)?;
        let asn = capabilities.as4.unwrap_or(u32::from(short));
        if asn == 0 || (short == 0) {
            return Err(Notification::new(2, 2, Vec::new(), "AS number 0 (RFC 7607)"));
        }
        Ok(Self { asn, hold_time, router_id, capabilities })
    }
}

/// Optional parameters, with their extended form (RFC 9072).
fn parameters(reader: &mut Reader<'_>) -> Result<Capabilities, Notification> {
    let broken = || Notification::new(2, 0, Vec::new(), "optional parameters of OPEN cannot be read");
    let length = reader.u8().ok_or_else(broken)?;
    let extended = length != 0 && reader.rest().first() == Some(&255);
    let mut list = if extended {
        reader.u8().ok_or_else(broken)?;
        let length = reader.u16().ok_or_else(broken)?;
        reader.sub(length.into()).ok_or_else(broken)?
    } else {
        reader.sub(length.into()).ok_or_else(broken)?
    };
    let mut capabilities = Capabilities::default();
    while !list.is_empty() {
        let kind = list.u8().ok_or_else(broken)?;
        let length = if extended { list.u16().map(usize::from) } else { list.u8().map(usize::from) }
            .ok_or_else(broken)?;
        let value = list.sub(length).ok_or_else(broken)?;
        if kind != 2 {
            return Err(Notification::new(2, 4, Vec::new(), format!("optional parameter {kind} of OPEN")));
        }
        capabilities.read(value).ok_or_else(broken)?;
    }
    Ok(capabilities)
}

impl Capabilities {
    fn read(&mut self, mut list: Reader<'_>) -> Option<()> {
        while !list.is_empty() {
            let (code, length) = (list.u8()?, list.u8()?);
            let value = list.sub(length.into())?;
            // One that cannot be read is as one that is not known.
            let _ = self.read_one(code, value);
        }
        Some(())
    }

    fn read_one(&mut self, code: u8, mut value: Reader<'_>) -> Option<()> {
        match code {
            cap::MULTIPROTOCOL => {
                let (afi, _, safi) = (value.u16()?, value.u8()?, value.u8()?);
                let families = self.families.get_or_insert_default();
                families.insert(Family::from_pair(afi, safi)?);
            }
            cap::ROUTE_REFRESH => self.route_refresh = true,
            cap::ENHANCED_REFRESH => self.enhanced_refresh = true,
            cap::EXTENDED_MESSAGES => self.extended_messages = true,
            cap::AS4 => self.as4 = Some(value.u32()?),
            cap::GRACEFUL_RESTART => {
                let first = value.u16()?;
                let mut restart = GracefulRestart {
                    restarting: first & 0x8000 != 0,
                    notification: first & 0x4000 != 0,
                    time: first & 0x0fff,
                    ..GracefulRestart::default()
                };
                while let (Some(afi), Some(safi), Some(flags)) = (value.u16(), value.u8(), value.u8()) {
                    let Some(family) = Family::from_pair(afi, safi) else { continue };
                    restart.families.insert(family);
                    if flags & 0x80 != 0 {
                        restart.forwarding.insert(family);
                    }
                }
                self.graceful_restart = Some(restart);
            }
            cap::LONG_LIVED => {
                self.long_lived.clear();
                while let (Some(afi), Some(safi), Some(flags), Some([a, b, c])) =
                    (value.u16(), value.u8(), value.u8(), value.array::<3>())
                {
                    let Some(family) = Family::from_pair(afi, safi) else { continue };
                    let time = u32::from_be_bytes([0, a, b, c]);
                    self.long_lived.retain(|entry| entry.family != family);
                    self.long_lived.push(LongLived { family, forwarding: flags & 0x80 != 0, time });
                }
            }
            cap::FQDN => {
                let length = value.u8()?;
                let name = String::from_utf8_lossy(value.take(length.into())?);
                self.host_name = Some(name.chars().filter(|c| !c.is_control()).collect());
            }
            _ => {}
        }
        Some(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        for family in self.families.unwrap_or_default().iter() {
            let [high, low] = family.afi().to_be_bytes();
            out.extend_from_slice(&[cap::MULTIPROTOCOL, 4, high, low, 0, family.safi()]);
        }
        if self.route_refresh {
            out.extend_from_slice(&[cap::ROUTE_REFRESH, 0]);
        }
        if self.extended_messages {
            out.extend_from_slice(&[cap::EXTENDED_MESSAGES, 0]);
        }
        if let Some(restart) = &self.graceful_restart {
            let flags = (u16::from(restart.restarting) << 15) | (u16::from(restart.notification) << 14);
            let first = (flags | restart.time.min(0x0fff)).to_be_bytes();
            let mut value = first.to_vec();
            for family in restart.families.iter() {
                let [high, low] = family.afi().to_be_bytes();
                let kept = u8::from(restart.forwarding.contains(family)) << 7;
                value.extend_from_slice(&[high, low, family.safi(), kept]);
            }
            push(cap::GRACEFUL_RESTART, &value, &mut out);
        }
        if let Some(asn) = self.as4 {
            push(cap::AS4, &asn.to_be_bytes(), &mut out);
        }
        if self.enhanced_refresh {
            out.extend_from_slice(&[cap::ENHANCED_REFRESH, 0]);
        }
        if !self.long_lived.is_empty() {
            let mut value = Vec::new();
            for entry in &self.long_lived {
                let [high, low] = entry.family.afi().to_be_bytes();
                let kept = u8::from(entry.forwarding) << 7;
                let [_, a, b, c] = entry.time.min(0x00ff_ffff).to_be_bytes();
                value.extend_from_slice(&[high, low, entry.family.safi(), kept, a, b, c]);
            }
            push(cap::LONG_LIVED, &value, &mut out);
        }
        if let Some(name) = &self.host_name {
            let name = name.as_bytes();
            // As much as leaves all other capabilities their place.
            let name = name.get(..63).unwrap_or(name);
            let mut value = vec![u8::try_from(name.len()).unwrap_or(0)];
            value.extend_from_slice(name);
            value.push(0);
            push(cap::FQDN, &value, &mut out);
        }
        out
    }
}

fn push(code: u8, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> Open {
        let long = |family| LongLived { family, forwarding: true, time: 86_400 };
        Open {
            asn: 4_200_000_000,
            hold_time: 90,
            router_id: Ipv4Addr::new(198, 18, 0, 1),
            capabilities: Capabilities {
                families: Some(FamilySet::ALL),
                route_refresh: true,
                enhanced_refresh: true,
                as4: Some(4_200_000_000),
                extended_messages: true,
                graceful_restart: Some(GracefulRestart {
                    restarting: true,
                    notification: true,
                    time: 120,
                    families: FamilySet::ALL,
                    forwarding: FamilySet::ALL,
                }),
                long_lived: Family::ALL.into_iter().map(long).collect(),
                host_name: Some("c".repeat(63)),
            },
        }
    }

    fn bytes(open: &Open) -> Vec<u8> {
        let mut out = Vec::new();
        open.encode(&mut out);
        out
    }

    #[test]
    fn everything_this_speaker_can_say_fits_and_comes_back() {
        assert_eq!(Open::decode(&bytes(&full())[19..]), Ok(full()));
        let plain = Open { asn: 64512, capabilities: Capabilities::default(), ..full() };
        assert_eq!(Open::decode(&bytes(&plain)[19..]), Ok(plain));
    }

    #[test]
    fn what_is_unknown_takes_nothing_from_the_rest() {
        // Families 1/133 and 1/1; an unknown capability; a cut AS4.
        let list = [1, 4, 0, 1, 0, 133, 1, 4, 0, 1, 0, 1, 200, 1, 9, 65, 1, 0, 64, 6, 0, 90, 0, 1, 133, 128];
        let mut body = vec![4, 0xfc, 0, 0, 90, 198, 18, 0, 2, list.len() as u8 + 2, 2, list.len() as u8];
        body.extend_from_slice(&list);
        let open = Open::decode(&body).unwrap();
        assert_eq!(open.asn, 64512);
        assert_eq!(open.capabilities.families, Some([Family::Ipv4Unicast].into_iter().collect()));
        assert_eq!(open.capabilities.graceful_restart.unwrap().time, 90);
    }

    #[test]
    fn errors_have_the_subcodes_of_the_rfc() {
        let good = bytes(&full())[19..].to_vec();
        for (at, value, subcode) in [(0, 5, 1), (10, 9, 4)] {
            let mut body = good.clone();
            body[at] = value;
            assert_eq!(Open::decode(&body).unwrap_err().subcode, subcode);
        }
        let mut body = good.clone();
        body[3..5].copy_from_slice(&[0, 2]);
        assert_eq!(Open::decode(&body).unwrap_err().subcode, 6);
        let mut body = good.clone();
        body[5..9].fill(0);
        assert_eq!(Open::decode(&body).unwrap_err().subcode, 3);
        assert_eq!(Open::decode(&good[..good.len() - 1]).unwrap_err().subcode, 0);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..80), at in 0..80_usize) {
            let _ = Open::decode(&body);
            let mut near = bytes(&full())[19..].to_vec();
            for (offset, byte) in body.iter().enumerate().take(3) {
                let index = (at + offset) % near.len();
                near[index] = *byte;
            }
            let _ = Open::decode(&near);
        }
    }
}
