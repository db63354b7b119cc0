//! UPDATE messages: routes in, with the decisions of RFC 7606; routes out,
//! packed into as few messages as hold them.

use super::attributes::{Attributes, NextHop, code, flag};
use super::attributes_decode::{self as read, Slice};
use super::attributes_encode as write;
use super::family::{Family, FamilySet};
use super::message::{HEADER, Kind, frame};
use super::nlri::{Nlri, Payload, Route, is_host};
use super::nlri_codec::{self, Decoded};
use super::notification::Notification;
use super::reader::Reader;

/// What the session agreed on, as far as reading an update needs it.
#[derive(Debug, Clone, Copy)]
pub struct DecodeContext {
    /// AS numbers have four bytes (RFC 6793).
    pub as4: bool,
    /// The peer is of the same AS.
    pub internal: bool,
    /// Families that both sides announced. Routes of others are ignored.
    pub families: FamilySet,
}

impl Update {
    /// Why routes count as withdrawn.
    pub fn withdraw_reason(&self) -> Option<&'static str> {
        let fault = self.faults.iter().find(|fault| fault.action == FaultAction::TreatAsWithdraw)?;
        Some(fault.reason)
    }
}

/// What was done about an error in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// Every route of the update counts as withdrawn (RFC 7606 section 2).
    TreatAsWithdraw,
    /// The attribute was dropped, the routes count.
    DiscardAttribute,
    /// A route that could not be read was passed over.
    SkipRoute,
    /// Routes of a family that was not agreed on were passed over.
    IgnoreFamily,
    /// Nothing more is taken of the family in this session, and what came is
    /// withdrawn (RFC 7606 section 2).
    DisableFamily,
}

/// An error in an update that did not end the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The type of the attribute, where it was one.
    pub attribute: Option<u8>,
    /// What was done.
    pub action: FaultAction,
    /// What was wrong.
    pub reason: &'static str,
}

impl Fault {
    pub(super) const fn withdraw(attribute: Option<u8>, reason: &'static str) -> Self {
        Self { attribute, action: FaultAction::TreatAsWithdraw, reason }
    }

    pub(super) const fn discard(attribute: u8, reason: &'static str) -> Self {
        Self { attribute: Some(attribute), action: FaultAction::DiscardAttribute, reason }
    }
}

/// Routes that came with the same attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Their attributes.
    pub attributes: Attributes,
    /// The routes; all of one family.
    pub routes: Vec<Route>,
}

/// An update, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// Routes that are gone. They come before the announcements.
    pub withdrawn: Vec<Nlri>,
    /// Routes that were announced and count as withdrawn, for the first fault
    /// with [`FaultAction::TreatAsWithdraw`].
    pub treated_as_withdrawn: Vec<Nlri>,
    /// Routes that are there; at most two groups.
    pub announced: Vec<Announcement>,
    /// The peer has sent all routes of this family (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// Of this family nothing more can be taken.
    pub disable: Option<Family>,
    /// Errors that were passed over.
    pub faults: Vec<Fault>,
}

/// Reads the body of an UPDATE message.
///
/// # Errors
/// The notification to close the session with, where RFC 7606 leaves nothing
/// else: the three fields of the message cannot be told apart, routes outside
/// MP_REACH_NLRI cannot be read, or an attribute with routes is there twice.
pub fn decode(body: &[u8], context: &DecodeContext) -> Result<Update, Notification> {
    let malformed = |reason| Notification::update(1, reason);
    let mut reader = Reader::new(body);
    let withdrawn = reader.u16().and_then(|length| reader.take(length.into()));
    let withdrawn =
        withdrawn.ok_or_else(|| malformed("withdrawn routes reach past the end of the message"))?;
    let attributes = reader.u16().and_then(|length| reader.take(length.into()));
    let attributes =
        attributes.ok_or_else(|| malformed("path attributes reach past the end of the message"))?;
    let nlri = reader.rest();
    let mut update = Update::default();
    if withdrawn.is_empty() && attributes.is_empty() && nlri.is_empty() {
        update.end_of_rib = Some(Family::Ipv4Unicast);
        return Ok(update);
    }
    legacy(withdrawn, |nlri| update.withdrawn.push(nlri.nlri))?;
    let mut routes = Vec::new();
    legacy(nlri, |route| routes.push(route))?;
    let none = withdrawn.is_empty() && nlri.is_empty();
    if !none && !context.families.contains(Family::Ipv4Unicast) {
        update.withdrawn.clear();
        routes.clear();
        update.faults.push(ignored("IPv4 routes, which were not agreed on"));
    }
    let (slices, whole) = read::cut(attributes, &mut update.faults);
    let reach = only(&slices, code::MP_REACH)?;
    let unreach = only(&slices, code::MP_UNREACH)?;
    let gone = unreach.map_or(Ok(None), |slice| mp_unreach(slice, context, &mut update))?;
    let lone_unreach = slices.len() == 1 && none;
    if let (Some(family), true) = (gone, lone_unreach && whole) {
        update.end_of_rib = Some(family);
        return Ok(update);
    }
    let mp = reach.map_or(Ok(None), |slice| mp_reach(slice, context, &mut update))?;
    if routes.is_empty() && mp.is_none() {
        return Ok(update);
    }
    let mut parsed = read::parse(&slices, context, &mut update.faults);
    if let Some((code, reason)) = parsed.missing(context)
        && !parsed.withdraw
    {
        parsed.withdraw = true;
        update.faults.push(Fault::withdraw(Some(code), reason));
    }
    parsed.withdraw |= !whole;
    if let Some((next_hop, mp_routes)) = mp {
        let mut attributes = parsed.attributes.clone();
        attributes.next_hop = next_hop;
        settle(&mut update, attributes, mp_routes, parsed.withdraw);
    }
    if !routes.is_empty() {
        let mut attributes = parsed.attributes;
        match parsed.next_hop {
            Some(next_hop) => {
                attributes.next_hop = NextHop::V4(next_hop);
                settle(&mut update, attributes, routes, parsed.withdraw);
            }
            None => {
                if !parsed.withdraw {
                    update.faults.push(Fault::withdraw(Some(code::NEXT_HOP), "NEXT_HOP is missing"));
                }
                settle(&mut update, attributes, routes, true);
            }
        }
    }
    Ok(update)
}

/// Announces routes, or withdraws them where something is wrong with them.
fn settle(update: &mut Update, attributes: Attributes, routes: Vec<Route>, withdraw: bool) {
    let mut withdraw = withdraw;
    if !withdraw && !is_host(attributes.next_hop.address()) {
        update.faults.push(Fault::withdraw(Some(code::NEXT_HOP), "the next hop is no address of a host"));
        withdraw = true;
    }
    if withdraw {
        update.treated_as_withdrawn.extend(routes.into_iter().map(|route| route.nlri));
    } else if !routes.is_empty() {
        update.announced.push(Announcement { attributes, routes });
    }
}

const fn ignored(reason: &'static str) -> Fault {
    Fault { attribute: None, action: FaultAction::IgnoreFamily, reason }
}

/// IPv4 prefixes outside the attributes. RFC 7606 section 5.3: an error here
/// ends the session.
fn legacy(bytes: &[u8], mut take: impl FnMut(Route)) -> Result<(), Notification> {
    let each = |decoded| {
        if let Decoded::Route(route) = decoded {
            take(route);
        }
    };
    nlri_codec::decode(Family::Ipv4Unicast, bytes, each).map_err(|reason| Notification::update(10, reason))
}

/// The one attribute of a type; RFC 7606 section 3 g.
fn only<'a, 'b>(slices: &'b [Slice<'a>], code: u8) -> Result<Option<&'b Slice<'a>>, Notification> {
    let mut found = slices.iter().filter(|slice| slice.code == code);
    let first = found.next();
    if found.next().is_some() {
        return Err(Notification::update(1, "MP_REACH_NLRI or MP_UNREACH_NLRI is there twice"));
    }
    Ok(first)
}

/// The family at the start of a multiprotocol attribute, if it counts.
fn family_of(
    reader: &mut Reader<'_>,
    context: &DecodeContext,
    update: &mut Update,
) -> Result<Option<Family>, Notification> {
    let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
        return Err(Notification::update(9, "multiprotocol attribute without a family"));
    };
    let family = Family::from_pair(afi, safi).filter(|family| context.families.contains(*family));
    if family.is_none() {
        update.faults.push(ignored("routes of a family that was not agreed on"));
    }
    Ok(family)
}

fn disable(update: &mut Update, family: Family, code: u8, reason: &'static str) {
    update.disable = Some(family);
    update.faults.push(Fault { attribute: Some(code), action: FaultAction::DisableFamily, reason });
}

/// Takes the withdrawals; the family if it carried none.
fn mp_unreach(
    slice: &Slice<'_>,
    context: &DecodeContext,
    update: &mut Update,
) -> Result<Option<Family>, Notification> {
    let mut reader = Reader::new(slice.value);
    let Some(family) = family_of(&mut reader, context, update)? else { return Ok(None) };
    if reader.is_empty() {
        return Ok(Some(family));
    }
    let mut skipped = false;
    let result = nlri_codec::decode(family, reader.rest(), |decoded| match decoded {
        Decoded::Route(route) => update.withdrawn.push(route.nlri),
        Decoded::Skipped => skipped = true,
    });
    note_skipped(update, slice.code, skipped);
    if let Err(reason) = result {
        disable(update, family, slice.code, reason);
    }
    Ok(None)
}

fn note_skipped(update: &mut Update, code: u8, skipped: bool) {
    if skipped {
        update.faults.push(Fault {
            attribute: Some(code),
            action: FaultAction::SkipRoute,
            reason: "EVPN route with lengths that its type does not allow",
        });
    }
}

/// Next hop and routes of an MP_REACH_NLRI.
fn mp_reach(
    slice: &Slice<'_>,
    context: &DecodeContext,
    update: &mut Update,
) -> Result<Option<(NextHop, Vec<Route>)>, Notification> {
    let mut reader = Reader::new(slice.value);
    let Some(family) = family_of(&mut reader, context, update)? else { return Ok(None) };
    let vpn = matches!(family, Family::Vpnv4 | Family::Vpnv6);
    let hop = reader.u8().and_then(|length| reader.take(length.into()));
    let hop = hop.and_then(|bytes| read::next_hop(bytes, vpn));
    // The reserved byte; RFC 4760 section 3 has it ignored.
    let (Some(next_hop), Some(_)) = (hop, reader.u8()) else {
        // RFC 7606 section 7.11: where the routes begin cannot be known.
        disable(update, family, slice.code, "MP_REACH_NLRI with a next hop of a wrong length");
        return Ok(None);
    };
    let (mut routes, mut skipped) = (Vec::new(), false);
    let result = nlri_codec::decode(family, reader.rest(), |decoded| match decoded {
        Decoded::Route(route) => routes.push(route),
        Decoded::Skipped => skipped = true,
    });
    note_skipped(update, slice.code, skipped);
    if let Err(reason) = result {
        disable(update, family, slice.code, reason);
        return Ok(None);
    }
    Ok((!routes.is_empty()).then_some((next_hop, routes)))
}

/// What the session agreed on, as far as writing an update needs it.
#[derive(Debug, Clone, Copy)]
pub struct EncodeContext {
    /// AS numbers have four bytes (RFC 6793).
    pub as4: bool,
    /// Longest message, header included: 4096, or 65535 (RFC 8654).
    pub limit: usize,
}

/// Why routes cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The attributes alone fill a message.
    #[error("the attributes are longer than a message of this session may be")]
    TooLong,
    /// An IPv4 route with an IPv6 next hop needs RFC 8950.
    #[error("an IPv4 route with an IPv6 next hop cannot be sent")]
    NextHopFamily,
}

/// Appends the messages that announce routes of one family with the same
/// attributes.
///
/// # Errors
/// Where no message could hold even one of them; nothing is appended then.
pub fn encode<'a>(
    family: Family,
    attributes: &Attributes,
    routes: impl IntoIterator<Item = (&'a Nlri, &'a Payload)>,
    context: &EncodeContext,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let legacy = family == Family::Ipv4Unicast;
    if legacy && matches!(attributes.next_hop, NextHop::V6(..)) {
        return Err(EncodeError::NextHopFamily);
    }
    let mut common = Vec::with_capacity(256);
    write::encode(attributes, legacy, context.as4, &mut common);
    let hop = write::next_hop(family, attributes.next_hop);
    // Header, two lengths, and the fixed part of MP_REACH_NLRI.
    let fixed = HEADER + 4 + common.len() + if legacy { 0 } else { 4 + 5 + hop.len() };
    // No NLRI that this speaker keeps is longer than 257 bytes.
    let room = context.limit.checked_sub(fixed).filter(|room| *room >= 257).ok_or(EncodeError::TooLong)?;
    pack(room, routes, false, |nlri| {
        frame(Kind::Update, out, |out| {
            out.extend_from_slice(&[0, 0]);
            if legacy {
                push_length(common.len(), out);
                out.extend_from_slice(&common);
                out.extend_from_slice(nlri);
                return;
            }
            // RFC 7606 section 5.1: the routes first.
            let mut list = Vec::with_capacity(common.len() + nlri.len() + 64);
            write::head(flag::OPTIONAL, code::MP_REACH, 5 + hop.len() + nlri.len(), &mut list);
            list.extend_from_slice(&family.afi().to_be_bytes());
            list.extend_from_slice(&[family.safi(), u8::try_from(hop.len()).unwrap_or(0)]);
            list.extend_from_slice(&hop);
            list.push(0);
            list.extend_from_slice(nlri);
            list.extend_from_slice(&common);
            push_length(list.len(), out);
            out.extend_from_slice(&list);
        });
    });
    Ok(())
}

/// Appends the messages that withdraw routes of one family.
pub fn encode_withdrawals<'a>(
    family: Family,
    routes: impl IntoIterator<Item = &'a Nlri>,
    context: &EncodeContext,
    out: &mut Vec<u8>,
) {
    let legacy = family == Family::Ipv4Unicast;
    let none = Payload::default();
    let room = context.limit - HEADER - 4 - if legacy { 0 } else { 7 };
    pack(room, routes.into_iter().map(|nlri| (nlri, &none)), true, |nlri| {
        frame(Kind::Update, out, |out| {
            if legacy {
                push_length(nlri.len(), out);
                out.extend_from_slice(nlri);
                out.extend_from_slice(&[0, 0]);
                return;
            }
            let mut list = Vec::with_capacity(nlri.len() + 8);
            write::head(flag::OPTIONAL, code::MP_UNREACH, 3 + nlri.len(), &mut list);
            list.extend_from_slice(&family.afi().to_be_bytes());
            list.push(family.safi());
            list.extend_from_slice(nlri);
            out.extend_from_slice(&[0, 0]);
            push_length(list.len(), out);
            out.extend_from_slice(&list);
        });
    });
}

/// Appends the marker that says: all routes of the family were sent.
pub fn encode_end_of_rib(family: Family, out: &mut Vec<u8>) {
    frame(Kind::Update, out, |out| {
        out.extend_from_slice(&[0, 0]);
        if family == Family::Ipv4Unicast {
            out.extend_from_slice(&[0, 0]);
            return;
        }
        let [high, low] = family.afi().to_be_bytes();
        out.extend_from_slice(&[0, 6, flag::OPTIONAL, code::MP_UNREACH, 3, high, low, family.safi()]);
    });
}

fn push_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

/// Groups NLRI into fields of at most `room` bytes.
fn pack<'a>(
    room: usize,
    routes: impl IntoIterator<Item = (&'a Nlri, &'a Payload)>,
    withdraw: bool,
    mut message: impl FnMut(&[u8]),
) {
    let mut field = Vec::with_capacity(room.min(8192));
    for (nlri, payload) in routes {
        let before = field.len();
        nlri_codec::encode(nlri, payload, withdraw, &mut field);
        if field.len() > room {
            message(&field[..before]);
            field.drain(..before);
        }
    }
    if !field.is_empty() {
        message(&field);
    }
}
