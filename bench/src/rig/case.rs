//! What is measured: traffic, what an engine does with it, and how fast it
//! should be.

use crate::engines::Kind;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a tenant into a tunnel.
    ToFabric,
    /// Out of a tunnel to a tenant.
    ToTenant,
}

/// The tunnel's encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// RFC 7348.
    Vxlan,
    /// RFC 7510.
    MplsUdp,
}

/// What the inner packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// UDP over IPv4 in frames of 60 bytes, 64 with the FCS.
    Smallest,
    /// UDP over IPv6 in frames of 62 bytes, the smallest there are.
    Ipv6,
    /// UDP over IPv4 in frames of 60, 590 and 1514 bytes, 7 to 4 to 1.
    Imix,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Packets that come out.
    Packets,
    /// Sessions that are made, while every packet is the first of a flow.
    NewSessions,
}

/// How fast Tieline should be in a case; `None`: nothing is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Targets {
    /// Millions a second.
    pub mega: Option<f64>,
    /// Times as fast as Open vSwitch.
    pub ovs: Option<f64>,
    /// Times as fast as testpmd.
    pub testpmd: Option<f64>,
    /// Times as fast as itself in the case's reference.
    pub reference: Option<f64>,
}

const NO_TARGETS: Targets = Targets { mega: None, ovs: None, testpmd: None, reference: None };

impl Targets {
    /// Of how many times as fast as another engine.
    pub fn over(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Tieline => None,
            Kind::Ovs => self.ovs,
            Kind::Testpmd => self.testpmd,
            Kind::Reference => self.reference,
        }
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Flows, and packets in the file.
    pub flows: u32,
    /// Which way packets go.
    pub way: Way,
    /// How Tieline encapsulates. Open vSwitch has VXLAN alone.
    pub tunnel: Tunnel,
    /// What the inner packets are.
    pub traffic: Traffic,
    /// Whether security groups are checked and sessions kept.
    pub stateful: bool,
    /// Prefixes that are routed beside the one that leads to the far end; the
    /// traffic goes to these then.
    pub routes: u32,
    /// VRFs that share the traffic, each on its own pair of VLAN tags if there
    /// is more than one.
    pub vrfs: u32,
    /// Workers, each with a receive queue that plays the file.
    pub workers: usize,
    /// What is counted.
    pub measure: Measure,
    /// Why Open vSwitch is not measured beside it, if it is not.
    pub no_ovs: Option<&'static str>,
    /// Whether the file takes so much memory that one engine runs at a time.
    pub alone: bool,
    /// The case in which Tieline is measured in turns with this one, to tell
    /// what the difference costs.
    pub reference: Option<&'static str>,
    /// How fast Tieline should be.
    pub targets: Targets,
}

const BASE: Case = Case {
    name: "",
    about: "",
    flows: 1000,
    way: Way::ToFabric,
    tunnel: Tunnel::Vxlan,
    traffic: Traffic::Smallest,
    stateful: false,
    routes: 0,
    vrfs: 1,
    workers: 1,
    measure: Measure::Packets,
    no_ovs: None,
    alone: false,
    reference: None,
    targets: NO_TARGETS,
};

/// Why Open vSwitch has no part where Tieline is compared with itself.
const ONE_CORE_IS_COMPARED: &str = "Tieline is compared with itself here, engines are on one core";

/// All cases, in the order in which they are measured.
pub const CASES: [Case; 14] = [
    Case {
        name: "stateless_1k",
        about: "VXLAN encapsulation, 1,000 flows",
        targets: Targets { ovs: Some(3.2), testpmd: Some(0.45), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "stateless_1k_mpls",
        about: "MPLS-in-UDP encapsulation, 1,000 flows",
        tunnel: Tunnel::MplsUdp,
        no_ovs: Some("it has no MPLS-in-UDP"),
        ..BASE
    },
    Case { name: "stateless_100k", about: "VXLAN encapsulation, 100,000 flows", flows: 100_000, ..BASE },
    Case {
        name: "stateful_1k",
        about: "with sessions and rules, 1,000 flows",
        stateful: true,
        targets: Targets { ovs: Some(8.0), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "stateful_100k",
        about: "with sessions and rules, 100,000 flows",
        flows: 100_000,
        stateful: true,
        targets: Targets { ovs: Some(8.5), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "stateful_1m",
        about: "with sessions and rules, 1,000,000 flows",
        flows: 1_000_000,
        stateful: true,
        no_ovs: Some("its pool has 262,144 buffers, the file 1,000,000 packets"),
        alone: true,
        reference: Some("stateful_100k"),
        targets: Targets { reference: Some(0.6), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "decap_stateful_100k",
        about: "out of VXLAN to a tenant, with sessions and rules",
        flows: 100_000,
        way: Way::ToTenant,
        stateful: true,
        ..BASE
    },
    Case {
        name: "routes_1m",
        about: "1,000,000 prefixes of /16 to /28, 100,000 destinations",
        flows: 100_000,
        routes: 1_000_000,
        no_ovs: Some("routes of tenants are OpenFlow rules of a controller's making there"),
        reference: Some("stateless_100k"),
        targets: Targets { reference: Some(0.8), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "vrfs_4k",
        about: "4,096 VRFs by QinQ, 16 flows each",
        flows: 65_536,
        vrfs: 4096,
        no_ovs: Some("it has no VRFs"),
        reference: Some("stateless_100k"),
        targets: Targets { reference: Some(0.8), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "ipv6_stateful_100k",
        about: "IPv6 with sessions and rules",
        flows: 100_000,
        traffic: Traffic::Ipv6,
        stateful: true,
        reference: Some("stateful_100k"),
        targets: Targets { reference: Some(0.75), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "new_sessions",
        about: "each packet the first of a flow: sessions made per second",
        flows: 1_000_000,
        stateful: true,
        measure: Measure::NewSessions,
        no_ovs: Some("its pool has 262,144 buffers, the file 1,000,000 packets"),
        alone: true,
        targets: Targets { mega: Some(2.0), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "mix_imix",
        about: "IMIX 7:4:1 of 64, 594 and 1518 bytes, with sessions and rules",
        flows: 12_000,
        traffic: Traffic::Imix,
        stateful: true,
        ..BASE
    },
    Case {
        name: "two_workers_stateless",
        about: "stateless_1k with two workers",
        workers: 2,
        no_ovs: Some(ONE_CORE_IS_COMPARED),
        reference: Some("stateless_1k"),
        targets: Targets { reference: Some(1.85), ..NO_TARGETS },
        ..BASE
    },
    Case {
        name: "two_workers_stateful",
        about: "stateful_1k with two workers",
        stateful: true,
        workers: 2,
        no_ovs: Some(ONE_CORE_IS_COMPARED),
        reference: Some("stateful_1k"),
        targets: Targets { reference: Some(1.85), ..NO_TARGETS },
        ..BASE
    },
];

impl Case {
    /// The case of this name.
    pub fn named(name: &str) -> Option<Case> {
        CASES.into_iter().find(|case| case.name == name)
    }

    /// Buffers that an engine needs: the file in every receive queue, and what
    /// is on its way.
    pub fn buffers(&self) -> u32 {
        self.flows * self.workers as u32 + 32_768
    }

    /// What an engine is measured in: the case itself, or its reference.
    pub fn of(&self, kind: Kind) -> Case {
        match kind {
            Kind::Reference => self.reference.and_then(Case::named).unwrap_or(*self),
            _ => *self,
        }
    }

    /// Why an engine has no part in it, if it has none.
    pub fn why_without(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::Tieline => None,
            Kind::Ovs => self.no_ovs,
            Kind::Testpmd if self.measure == Measure::NewSessions => Some("it keeps no sessions"),
            Kind::Testpmd => None,
            Kind::Reference if self.reference.is_none() => Some("no other case is compared with this one"),
            Kind::Reference => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_case_and_no_other() {
        for case in CASES {
            let found = Case::named(case.name).expect("a case of this name");
            assert_eq!(found.about, case.about);
            assert_eq!(case.flows % case.vrfs, 0, "{}: every VRF has as many flows", case.name);
        }
        assert!(Case::named("stateless").is_none());
    }

    #[test]
    fn references_are_cases_of_one_worker_without_a_reference() {
        for case in CASES {
            let Some(name) = case.reference else {
                assert!(case.targets.reference.is_none(), "{}: compared with nothing", case.name);
                continue;
            };
            let reference = Case::named(name).unwrap_or_else(|| panic!("{}: no case {name}", case.name));
            assert_eq!(case.of(Kind::Reference).name, name);
            assert_eq!((reference.workers, reference.reference), (1, None), "{}", case.name);
        }
    }
}
