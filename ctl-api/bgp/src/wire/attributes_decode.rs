//! Path attributes from bytes, with the decisions of RFC 7606.
//!
//! The attributes are cut apart first, then read one by one, so that an error
//! in one never hides the routes that another one names.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::as_path::AsPath;
use super::attributes::{Attributes, NextHop, Origin, RawAttribute, code, flag};
use super::community::{Community, ExtendedCommunity};
use super::reader::Reader;
use super::update::{DecodeContext, Fault, FaultAction};

/// An attribute, cut out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) flags: u8,
    pub(super) code: u8,
    pub(super) value: &'a [u8],
}

/// Cuts attributes apart. A second attribute of one type is dropped (RFC 7606
/// section 3 g); the caller looks for the two types where that is an error.
pub(super) fn cut<'a>(bytes: &'a [u8], faults: &mut Vec<Fault>) -> (Vec<Slice<'a>>, bool) {
    let mut reader = Reader::new(bytes);
    let mut slices: Vec<Slice<'a>> = Vec::with_capacity(8);
    let mut whole = true;
    let mut seen = [false; 256];
    while !reader.is_empty() {
        let Some(slice) = cut_one(&mut reader) else {
            // Section 4: what was cut so far counts, the routes are withdrawn.
            faults.push(Fault::withdraw(None, "attribute list ends inside an attribute"));
            whole = false;
            break;
        };
        let known = std::mem::replace(&mut seen[usize::from(slice.code)], true);
        if known && !matches!(slice.code, code::MP_REACH | code::MP_UNREACH) {
            faults.push(Fault::discard(slice.code, "attribute is there twice; the first one counts"));
            continue;
        }
        slices.push(slice);
    }
    (slices, whole)
}

fn cut_one<'a>(reader: &mut Reader<'a>) -> Option<Slice<'a>> {
    let (flags, code) = (reader.u8()?, reader.u8()?);
    let length =
        if flags & flag::EXTENDED != 0 { usize::from(reader.u16()?) } else { usize::from(reader.u8()?) };
    Some(Slice { flags: flags & !(flag::EXTENDED | 0x0f), code, value: reader.take(length)? })
}

/// The attributes of an update while they are read.
pub(super) struct Parsed {
    /// Without a right next hop yet.
    pub(super) attributes: Attributes,
    /// NEXT_HOP, for the routes outside MP_REACH_NLRI.
    pub(super) next_hop: Option<Ipv4Addr>,
    /// Whether the routes must be withdrawn.
    pub(super) withdraw: bool,
    has_origin: bool,
    has_as_path: bool,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<(u32, Ipv4Addr)>,
}

/// Optional and transitive bits of the attributes that are known, or `None`.
const fn flags_of(code: u8) -> Option<u8> {
    Some(match code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            flag::TRANSITIVE
        }
        code::MED | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::MP_REACH | code::MP_UNREACH => {
            flag::OPTIONAL
        }
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::PMSI_TUNNEL
        | code::LARGE_COMMUNITIES => flag::OPTIONAL | flag::TRANSITIVE,
        _ => return None,
    })
}

/// Reads every attribute except the two that carry routes.
pub(super) fn parse(slices: &[Slice<'_>], context: &DecodeContext, faults: &mut Vec<Fault>) -> Parsed {
    let mut parsed = Parsed {
        attributes: Attributes::new(NextHop::V4(Ipv4Addr::UNSPECIFIED)),
        next_hop: None,
        withdraw: false,
        has_origin: false,
        has_as_path: false,
        as4_path: None,
        as4_aggregator: None,
    };
    for slice in slices {
        if matches!(slice.code, code::MP_REACH | code::MP_UNREACH) {
            continue;
        }
        let fault = match flags_of(slice.code) {
            // RFC 7606 section 3 c.
            Some(right) if slice.flags & (flag::OPTIONAL | flag::TRANSITIVE) != right => {
                Err((FaultAction::TreatAsWithdraw, "attribute flags do not fit the type"))
            }
            Some(_) => read(slice, context, &mut parsed),
            None => keep(slice, &mut parsed),
        };
        if let Err((action, reason)) = fault {
            parsed.withdraw |= action == FaultAction::TreatAsWithdraw;
            faults.push(Fault { attribute: Some(slice.code), action, reason });
        }
    }
    restore_wide(&mut parsed);
    parsed.attributes.shrink();
    parsed
}

type Verdict = Result<(), (FaultAction, &'static str)>;

const fn withdraw<T>(reason: &'static str) -> Result<T, (FaultAction, &'static str)> {
    Err((FaultAction::TreatAsWithdraw, reason))
}

const fn discard<T>(reason: &'static str) -> Result<T, (FaultAction, &'static str)> {
    Err((FaultAction::DiscardAttribute, reason))
}

/// An attribute that is not known.
fn keep(slice: &Slice<'_>, parsed: &mut Parsed) -> Verdict {
    if slice.flags & flag::OPTIONAL == 0 {
        return withdraw("well-known attribute that is not known");
    }
    if slice.flags & flag::TRANSITIVE != 0 {
        let raw =
            RawAttribute { flags: slice.flags | flag::PARTIAL, code: slice.code, value: slice.value.into() };
        parsed.attributes.unknown.push(raw);
    }
    Ok(())
}

/// An attribute that is known: RFC 7606 section 7 says what follows an error.
fn read(slice: &Slice<'_>, context: &DecodeContext, parsed: &mut Parsed) -> Verdict {
    let value = slice.value;
    let attributes = &mut parsed.attributes;
    let internal_only = "attribute of internal sessions on an external one";
    match slice.code {
        code::ORIGIN => {
            attributes.origin = match value {
                [0] => Origin::Igp,
                [1] => Origin::Egp,
                [2] => Origin::Incomplete,
                _ => return withdraw("ORIGIN is not one byte of 0, 1 or 2"),
            };
            parsed.has_origin = true;
        }
        code::AS_PATH => match AsPath::decode(value, context.as4) {
            // RFC 7607 section 2.
            Some(path) if path.contains(0) => return withdraw("AS_PATH with AS 0"),
            // RFC 5065 section 5: confederations stay inside.
            Some(path) if !context.internal && path.has_confederation() => {
                return withdraw("AS_PATH of a confederation on an external session");
            }
            Some(path) => {
                attributes.as_path = path;
                parsed.has_as_path = true;
            }
            None => return withdraw("AS_PATH with a segment that is unknown, empty or cut"),
        },
        code::NEXT_HOP => match value.try_into().map(<[u8; 4]>::into) {
            Ok(address) => parsed.next_hop = Some(address),
            Err(_) => return withdraw("NEXT_HOP is not four bytes"),
        },
        code::MED => match value.try_into().map(u32::from_be_bytes) {
            Ok(med) => attributes.med = Some(med),
            Err(_) => return withdraw("MULTI_EXIT_DISC is not four bytes"),
        },
        code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if !context.internal => {
            return discard(internal_only);
        }
        code::LOCAL_PREF => match value.try_into().map(u32::from_be_bytes) {
            Ok(preference) => attributes.local_pref = Some(preference),
            Err(_) => return withdraw("LOCAL_PREF is not four bytes"),
        },
        code::ORIGINATOR_ID => match value.try_into().map(<[u8; 4]>::into) {
            Ok(id) => attributes.originator_id = Some(id),
            Err(_) => return withdraw("ORIGINATOR_ID is not four bytes"),
        },
        code::CLUSTER_LIST => {
            let ids = records::<4>(value)
                .ok_or((FaultAction::TreatAsWithdraw, "CLUSTER_LIST is not a list of four bytes each"))?;
            attributes.cluster_list = ids.map(Ipv4Addr::from).collect();
        }
        code::ATOMIC_AGGREGATE => {
            if !value.is_empty() {
                return discard("ATOMIC_AGGREGATE is not empty");
            }
            attributes.atomic_aggregate = true;
        }
        code::AGGREGATOR => {
            attributes.aggregator = Some(
                aggregator(value, context.as4)
                    .ok_or((FaultAction::DiscardAttribute, "AGGREGATOR of a wrong length"))?,
            );
        }
        code::AS4_AGGREGATOR => {
            let aggregator = aggregator(value, true)
                .ok_or((FaultAction::DiscardAttribute, "AS4_AGGREGATOR of a wrong length"))?;
            // RFC 6793 section 4.1: not from a speaker with 4-byte AS numbers.
            parsed.as4_aggregator = (!context.as4).then_some(aggregator);
        }
        code::AS4_PATH => {
            let path = AsPath::decode(value, true)
                .ok_or((FaultAction::DiscardAttribute, "AS4_PATH cannot be read"))?;
            parsed.as4_path = (!context.as4).then_some(path);
        }
        code::COMMUNITIES => {
            let list = records::<4>(value)
                .ok_or((FaultAction::TreatAsWithdraw, "COMMUNITIES is not a list of four bytes each"))?;
            attributes.communities = list.map(|bytes| Community(u32::from_be_bytes(bytes))).collect();
        }
        code::EXTENDED_COMMUNITIES => {
            let list = records::<8>(value).ok_or((
                FaultAction::TreatAsWithdraw,
                "EXTENDED COMMUNITIES is not a list of eight bytes each",
            ))?;
            attributes.extended = list.map(ExtendedCommunity).collect();
        }
        code::LARGE_COMMUNITIES => {
            let list = records::<12>(value).ok_or((
                FaultAction::TreatAsWithdraw,
                "LARGE_COMMUNITY is not a list of twelve bytes each",
            ))?;
            attributes.large = list
                .map(|[a, b, c, d, e, f, g, h, i, j, k, l]| {
                    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_be_bytes)
                })
                .collect();
        }
        _ => {
            // PMSI_TUNNEL, RFC 6514 section 5: flags, type and label at least.
            if value.len() < 5 {
                return withdraw("PMSI_TUNNEL shorter than five bytes");
            }
            attributes.pmsi = Some(value.into());
        }
    }
    Ok(())
}

/// A list of records of N bytes: at least one, and nothing over.
fn records<const N: usize>(value: &[u8]) -> Option<impl Iterator<Item = [u8; N]> + '_> {
    (!value.is_empty() && value.len().is_multiple_of(N))
        .then(|| value.chunks_exact(N).filter_map(|record| record.try_into().ok()))
}

fn aggregator(value: &[u8], wide: bool) -> Option<(u32, Ipv4Addr)> {
    let mut reader = Reader::new(value);
    let asn = if wide { reader.u32()? } else { u32::from(reader.u16()?) };
    let address = reader.array::<4>()?.into();
    reader.is_empty().then_some((asn, address))
}

/// RFC 6793 section 4.2.3: what an old speaker on the way could not say.
fn restore_wide(parsed: &mut Parsed) {
    let attributes = &mut parsed.attributes;
    if let (Some((asn, _)), Some(_)) = (attributes.aggregator, parsed.as4_aggregator) {
        if asn != u32::from(super::as_path::AS_TRANS) {
            return;
        }
        attributes.aggregator = parsed.as4_aggregator;
    }
    if let Some(as4_path) = parsed.as4_path.take() {
        attributes.as_path = std::mem::take(&mut attributes.as_path).merge(as4_path);
    }
}

impl Parsed {
    /// Which attribute that every announcement needs is missing (RFC 7606
    /// section 3 d).
    pub(super) fn missing(&self, context: &DecodeContext) -> Option<(u8, &'static str)> {
        if !self.has_origin {
            return Some((code::ORIGIN, "ORIGIN is missing"));
        }
        if !self.has_as_path {
            return Some((code::AS_PATH, "AS_PATH is missing"));
        }
        if context.internal && self.attributes.local_pref.is_none() {
            return Some((code::LOCAL_PREF, "LOCAL_PREF is missing"));
        }
        None
    }
}

/// The next hop of an MP_REACH_NLRI: `vpn` has a route distinguisher before
/// each address, whose value says nothing.
pub(super) fn next_hop(bytes: &[u8], vpn: bool) -> Option<NextHop> {
    let mut reader = Reader::new(bytes);
    let skip = if vpn { 8 } else { 0 };
    let one = if vpn { (12, 24) } else { (4, 16) };
    reader.take(skip)?;
    if bytes.len() == one.0 {
        return Some(NextHop::V4(reader.array::<4>()?.into()));
    }
    let global: Ipv6Addr = reader.array::<16>()?.into();
    if bytes.len() == one.1 {
        return Some(NextHop::V6(global, None));
    }
    reader.take(skip)?;
    let link: Ipv6Addr = reader.array::<16>()?.into();
    reader.is_empty().then(|| NextHop::V6(global, (!link.is_unspecified()).then_some(link)))
}
