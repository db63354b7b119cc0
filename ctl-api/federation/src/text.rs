//! Types that are written as one text: how they are read, written and
//! described in a schema.
//!
//! Each has a format, by which the check of a file knows how to read its texts
//! ([`check_format`]), so that every wrong text of a file is found, not only
//! the first.

use std::str::FromStr;

pub(crate) use tieline_names::text_type;

use crate::intent::addresses::{InterfaceAddress, Mac, Prefix};
use crate::intent::names::{LabelKey, LabelValue, Name, PortName, Reference};
use crate::intent::traffic::{PortRange, Protocol};
use crate::numbers::{Asn, RouteDistinguisher, RouteTarget, RouterId};

/// Whether a text is of a format; none when the format is not one of ours.
pub fn check_format(format: &str, text: &str) -> Option<Result<(), String>> {
    fn read<T: FromStr>(text: &str) -> Result<(), String>
    where
        T::Err: ToString,
    {
        text.parse::<T>().map(drop).map_err(|error| error.to_string())
    }
    Some(match format {
        "name" => read::<Name>(text),
        "port-name" => read::<PortName>(text),
        "reference" => read::<Reference>(text),
        "label-key" => read::<LabelKey>(text),
        "label-value" => read::<LabelValue>(text),
        "prefix" => read::<Prefix>(text),
        "address-with-length" => read::<InterfaceAddress>(text),
        "mac" => read::<Mac>(text),
        "ip" => read::<std::net::IpAddr>(text)
            .map_err(|_| format!("{text:?} is not an IP address: write 198.18.0.1 or 2001:db8::1")),
        "router-id" => read::<RouterId>(text),
        "route-target" => read::<RouteTarget>(text),
        "route-distinguisher" => read::<RouteDistinguisher>(text),
        "port-range" => read::<PortRange>(text),
        "protocol" => read::<Protocol>(text),
        _ => return None,
    })
}

/// Whether a number is of a format; none when the format is not one of ours.
pub fn check_number_format(format: &str, number: u64) -> Option<Result<(), String>> {
    match format {
        "asn" => Some(match u32::try_from(number) {
            Ok(number) => Asn::try_from(number).map(drop),
            Err(_) => Err(format!("{number} is larger than any AS number")),
        }),
        _ => None,
    }
}
