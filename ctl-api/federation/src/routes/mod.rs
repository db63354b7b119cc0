//! Between BGP and the gateways: what gateways export becomes BGP routes, and
//! BGP routes become what gateways are told.
//!
//! - [`outward`]: an export of a gateway as VPN and EVPN routes
//! - [`inward`]: a path from BGP as a route for gateways
//! - [`groups`]: which security groups may be seen across AS borders
//! - [`distribution`]: which gateway gets which route, and when that changes
//! - [`duplicates`]: addresses that several gateways claim
//!
//! All of it is without I/O. Next hop and label stay together: a route goes to
//! gateways with the next hop and the label that came in the same update.

pub mod distribution;
pub mod duplicates;
pub mod groups;
pub mod inward;
pub mod outward;

use std::net::IpAddr;

use ipnet::IpNet;

/// Shorter prefixes of IPv4 and IPv6 lead nearly everywhere: a few of them are a
/// default route.
const SHORTEST: [u8; 2] = [8, 7];

/// Why a prefix is never advertised or taken, whatever the policy (R7, K7).
///
/// # Errors
/// The reason, in words.
pub fn check_prefix(prefix: IpNet, default_allowed: bool) -> Result<(), &'static str> {
    if prefix.prefix_len() == 0 {
        return if default_allowed { Ok(()) } else { Err("a default route, which is not asked for") };
    }
    if !default_allowed && prefix.prefix_len() < SHORTEST[usize::from(prefix.addr().is_ipv6())] {
        return Err("a large part of a default route, which is not asked for");
    }
    match prefix.network() {
        IpAddr::V4(v4) if v4.is_link_local() => Err("a link-local prefix"),
        IpAddr::V4(v4) if v4.is_loopback() => Err("a loopback prefix"),
        IpAddr::V4(v4) if v4.is_multicast() => Err("a multicast prefix"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err("a link-local prefix"),
        IpAddr::V6(v6) if v6.is_loopback() => Err("a loopback prefix"),
        IpAddr::V6(v6) if v6.is_multicast() => Err("a multicast prefix"),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r7_and_k7_some_prefixes_never_cross() {
        for (prefix, crosses) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("169.254.1.0/24", false),
            ("fe80::/64", false),
            ("127.0.0.0/8", false),
            ("224.0.0.0/4", false),
            ("ff00::/8", false),
            ("fc00::/7", true),
            ("10.0.0.0/8", true),
            ("2001:db8::/32", true),
        ] {
            let prefix: IpNet = prefix.parse().expect("a prefix");
            assert_eq!(check_prefix(prefix, false).is_ok(), crosses, "{prefix}");
            assert_eq!(check_prefix(prefix, true).is_ok(), crosses || prefix.prefix_len() == 0, "{prefix}");
        }
        for prefix in ["0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "10.0.0.0/7", "2000::/3", "8000::/1"] {
            let prefix: IpNet = prefix.parse().expect("a prefix");
            let refused = check_prefix(prefix, false).expect_err("two of them are a default route");
            assert!(refused.contains("default route"), "{prefix}: {refused}");
            assert_eq!(check_prefix(prefix, true), Ok(()), "{prefix}");
        }
    }
}
