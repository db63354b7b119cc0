//! Security groups on the way between clusters.
//!
//! A user group, 1 to 7,999,999, means the same in every cluster. A system
//! group, from 8,000,000 on, is of the cluster that allocated it: its number
//! says nothing elsewhere, and may be another group's there (C10, C12).

use tieline_bgp::wire::community::{SecurityGroup, security_group_communities, security_groups};
use tieline_bgp::wire::{Attributes, ExtendedCommunity};

use crate::exchange::Origin;
use crate::numbers::{Asn, USER_SECURITY_GROUPS};

/// The groups of a route that a cluster's gateways may see, in order and each
/// once. `origin` is whose word the route is: who is no controller of the cluster
/// cannot put anybody into one of its system groups (S3).
pub fn visible(local: Asn, origin: Origin, attributes: &Attributes) -> Vec<u32> {
    let is_ours = |group: &SecurityGroup| origin == Origin::Ours && group.asn == u32::from(local);
    let is_visible =
        |group: &SecurityGroup| USER_SECURITY_GROUPS.contains(&group.id) || (is_ours(group) && group.id != 0);
    let mut ids: Vec<u32> = security_groups(&attributes.extended)
        .iter()
        .filter(|group| is_visible(group))
        .map(|g| g.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The communities of groups that a cluster's gateway has on a route.
pub fn communities(local: Asn, ids: &[u32]) -> Vec<ExtendedCommunity> {
    let groups: Vec<SecurityGroup> =
        ids.iter().map(|id| SecurityGroup { asn: local.into(), id: *id }).collect();
    security_group_communities(&groups)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::exchange::Foreign;

    const LOCAL: u32 = 64512;

    fn asn(number: u32) -> Asn {
        Asn::try_from(number).expect("an AS number")
    }

    fn seen(groups: &[(u32, u32)]) -> Vec<u32> {
        seen_of(Origin::Ours, groups)
    }

    fn seen_of(origin: Origin, groups: &[(u32, u32)]) -> Vec<u32> {
        let groups: Vec<SecurityGroup> =
            groups.iter().map(|(asn, id)| SecurityGroup { asn: *asn, id: *id }).collect();
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 1]));
        attributes.extended = security_group_communities(&groups);
        visible(asn(LOCAL), origin, &attributes)
    }

    #[test]
    fn s3_c12_nobody_else_puts_a_route_into_a_group_of_the_cluster() {
        for why in [Foreign::External, Foreign::Path, Foreign::Undeclared, Foreign::Reflector] {
            let seen =
                seen_of(Origin::Foreign(why), &[(LOCAL, 8_000_001), (LOCAL, 5), (64513, 6), (LOCAL, 0)]);
            assert_eq!(seen, [5, 6], "{why}");
        }
    }

    #[test]
    fn c10_system_groups_stay_at_home_and_user_groups_travel() {
        assert_eq!(seen(&[(LOCAL, 8_000_001)]), [8_000_001]);
        assert!(seen(&[(64513, 8_000_001)]).is_empty());
        assert_eq!(seen(&[(64513, 77), (4_200_000_000, 78)]), [77, 78]);
    }

    #[test]
    fn c12_a_remote_system_group_never_passes_for_a_local_one() {
        assert_eq!(seen(&[(64513, 8_000_001), (LOCAL, 8_000_002)]), [8_000_002]);
        // The index of a pair with a 4-byte AS may look like the local AS.
        let pair = [
            ExtendedCommunity([0x82, 0x04, 0xfa, 0x56, 0xea, 0, 0xfc, 0]),
            ExtendedCommunity([0x80, 0x04, 0xfc, 0, 0, 0x7a, 0x12, 1]),
        ];
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 1]));
        attributes.extended = pair.to_vec();
        assert!(visible(asn(LOCAL), Origin::Ours, &attributes).is_empty());
    }

    #[test]
    fn a_foreign_pair_does_not_clear_user_groups() {
        assert_eq!(seen(&[(4_200_000_000, 8_000_001), (64513, 5), (LOCAL, 6)]), [5, 6]);
    }

    #[test]
    fn what_is_sent_is_what_the_same_as_reads() {
        for number in [LOCAL, 4_200_000_000] {
            let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 1]));
            attributes.extended = communities(asn(number), &[5, 8_000_001]);
            assert_eq!(visible(asn(number), Origin::Ours, &attributes), [5, 8_000_001]);
        }
    }
}
