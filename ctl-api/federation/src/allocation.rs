//! Numbers that clusters allocate themselves: system route targets, security
//! group IDs, VNIs, route distinguishers, numbers of sites.
//!
//! [`allocate`] is a function of what is allocated, the intent and the time.
//! A holder keeps its number for as long as the intent has it. What is released
//! rests for [`QUARANTINE`] and for as long as somebody still refers to it; a
//! holder that comes back meanwhile gets its number back. Otherwise the lowest
//! free number is given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::intent::kinds::cluster::VniRange;
use crate::intent::kinds::site::{FIRST_LISTENER_PORT, FIRST_ROUTE_TARGET_NUMBER, ROUTE_TARGET_STEP};
use crate::intent::kinds::{Connection, SecurityGroup, Site, VirtualNetwork, VirtualNetworkRouter};
use crate::intent::problem::{Problem, Rule};
use crate::intent::topology::{Part, Target, Topology, hosts};
use crate::intent::{Intent, ObjectKey};
use crate::numbers::{Asn, FIRST_SYSTEM_NUMBER, RouteDistinguisher, RouteTarget, VNIS};

/// How long a released number rests: longer than routes with it outlive their
/// origin by graceful restart (RFC 4724, at most 4,095 s).
pub const QUARANTINE: Duration = Duration::from_secs(2 * 60 * 60);

/// What is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// System route targets.
    RouteTarget,
    /// System security group IDs.
    SecurityGroup,
    /// VXLAN network identifiers.
    Vni,
    /// Route distinguishers.
    Distinguisher,
    /// Listener ports of sites.
    ListenerPort,
    /// Route target numbers of sites.
    SiteRouteTarget,
}

impl Resource {
    const ALL: [(Self, &str); 6] = [
        (Self::RouteTarget, "route-target"),
        (Self::SecurityGroup, "security-group"),
        (Self::Vni, "vni"),
        (Self::Distinguisher, "route-distinguisher"),
        (Self::ListenerPort, "listener-port"),
        (Self::SiteRouteTarget, "site-route-target"),
    ];
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(resource, _)| resource == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(resource, _)| *resource)
            .ok_or_else(|| format!("{text:?} is not something that is allocated"))
    }
}

/// Numbers of one AS, of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId {
    /// The AS.
    pub asn: Asn,
    /// What is allocated.
    pub resource: Resource,
}

impl PoolId {
    /// The numbers that may be given. `vnis` are those that the cluster with this
    /// AS number names.
    pub fn range(self, vnis: Option<VniRange>) -> RangeInclusive<u32> {
        let asn = self.asn;
        match self.resource {
            Resource::RouteTarget => asn.system_route_targets(),
            Resource::SecurityGroup => FIRST_SYSTEM_NUMBER..=u32::MAX,
            Resource::Vni => vnis.map_or(VNIS, |range| range.first..=range.last),
            Resource::Distinguisher => asn.distinguishers(),
            Resource::ListenerPort => u32::from(FIRST_LISTENER_PORT)..=u32::from(u16::MAX),
            Resource::SiteRouteTarget => FIRST_ROUTE_TARGET_NUMBER..=asn.system_route_targets().start() - 1,
        }
    }

    /// Numbers from the range's first by this much.
    const fn step(self) -> u32 {
        match self.resource {
            Resource::SiteRouteTarget => ROUTE_TARGET_STEP,
            _ => 1,
        }
    }
}

/// Who has a number: an object, and what of it when it has several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holder(String);

impl Holder {
    /// An object.
    pub fn object(key: &ObjectKey) -> Self {
        Self(key.to_string())
    }

    /// A part of an object: of a router, or of a network at a gateway.
    pub fn part(key: &ObjectKey, part: &str) -> Self {
        Self(format!("{key}#{part}"))
    }

    /// From a text that `Display` wrote.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number that rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// Who had it.
    pub holder: Holder,
    /// When it was released, in seconds since 1970.
    pub at: u64,
}

/// One pool: who has which number, and which rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// By holder.
    pub held: BTreeMap<Holder, u32>,
    /// By number.
    pub released: BTreeMap<u32, Released>,
}

impl Pool {
    /// How many numbers can be given yet, of its range.
    pub fn free(&self, id: PoolId, vnis: Option<VniRange>) -> u64 {
        let range = id.range(vnis);
        let all = u64::from(range.end() - range.start()) / u64::from(id.step()) + 1;
        let taken: BTreeSet<u32> = self.held.values().chain(self.released.keys()).copied().collect();
        // One that the intent names may be outside, or between two steps.
        let given =
            |number: &u32| range.contains(number) && (number - range.start()).is_multiple_of(id.step());
        all.saturating_sub(taken.into_iter().filter(given).count() as u64)
    }
}

/// All that is allocated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocations {
    /// By AS and resource.
    pub pools: BTreeMap<PoolId, Pool>,
}

/// What else allocation depends on.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The time, in seconds since 1970.
    pub now: u64,
    /// Numbers that gateways or peers still have, whoever held them: they are
    /// given to nobody else, however long ago they were released.
    pub referenced: BTreeSet<(PoolId, u32)>,
}

/// A number that is wanted.
struct Demand {
    pool: PoolId,
    range: RangeInclusive<u32>,
    holder: Holder,
    object: ObjectKey,
    /// The one that the intent names.
    fixed: Option<u32>,
}

/// Gives every holder of an intent its numbers.
///
/// # Errors
/// A pool is exhausted, or the intent names a number that somebody else has or
/// that still rests. Nothing is allocated then.
pub fn allocate(
    allocations: &Allocations,
    intent: &Intent,
    circumstances: &Circumstances,
) -> Result<Allocations, Vec<Problem>> {
    let mut demands: BTreeMap<PoolId, Vec<Demand>> = BTreeMap::new();
    for demand in demands_of(intent) {
        demands.entry(demand.pool).or_default().push(demand);
    }
    let mut result = Allocations::default();
    let mut problems = Vec::new();
    let users = user_targets(intent);
    let none = Pool::default();
    let ids: BTreeSet<PoolId> = allocations.pools.keys().chain(demands.keys()).copied().collect();
    for id in ids {
        let old = allocations.pools.get(&id).unwrap_or(&none);
        let wanted = demands.remove(&id).unwrap_or_default();
        let pool = Pooling { id, old, new: Pool::default(), circumstances, users: &users }
            .settle(&wanted, &mut problems);
        if !pool.held.is_empty() || !pool.released.is_empty() {
            result.pools.insert(id, pool);
        }
    }
    if problems.is_empty() { Ok(result) } else { Err(problems) }
}

/// One pool, from what it was to what it will be.
struct Pooling<'a> {
    id: PoolId,
    old: &'a Pool,
    new: Pool,
    circumstances: &'a Circumstances,
    users: &'a BTreeMap<RouteTarget, ObjectKey>,
}

impl Pooling<'_> {
    fn settle(mut self, wanted: &[Demand], problems: &mut Vec<Problem>) -> Pool {
        self.release(wanted);
        let mut used: BTreeMap<u32, Holder> = BTreeMap::new();
        // First what holders have already: nobody takes it from them.
        for demand in wanted.iter().filter(|demand| demand.fixed.is_none()) {
            if let Some(number) = self.kept(demand) {
                used.insert(number, demand.holder.clone());
            }
        }
        for demand in wanted {
            let Some(number) = demand.fixed else { continue };
            let own = self.old.held.get(&demand.holder) == Some(&number);
            let resting = self.new.released.get(&number).filter(|released| released.holder != demand.holder);
            let taken = used.get(&number).map(|holder| format!("is {holder}'s"));
            let rests = resting
                .map(|released| format!("was {}'s until a short time ago and still rests", released.holder));
            match taken.or(rests.filter(|_| !own)) {
                Some(why) => {
                    let reason = format!("{} {number} {why}", self.id.resource);
                    let remedy = "leave it out, or name another";
                    problems.push(Problem::new(&demand.object, "spec", Rule::Allocation, reason, remedy));
                }
                None => {
                    used.insert(number, demand.holder.clone());
                }
            }
        }
        self.fill(wanted, &mut used, problems);
        let resting = self.new.released.iter().map(|(number, released)| (number, &released.holder));
        for (number, holder) in used.iter().chain(resting.filter(|(number, _)| !used.contains_key(number))) {
            if let Some((target, user)) = self.user_of(*number) {
                let reason =
                    format!("{target} is, or was a short time ago, that of everything from {holder}");
                let remedy = "use another one, or give the site a routeTargetNumber of its own";
                problems.push(Problem::new(user, "spec", Rule::Allocation, reason, remedy));
            }
        }
        for (number, holder) in used {
            self.new.released.remove(&number);
            self.new.held.insert(holder, number);
        }
        self.new
    }

    /// The user route target that a number would be, and who uses it: of a site it
    /// must not be one, since what bears it counts as the cluster's own word.
    fn user_of(&self, number: u32) -> Option<(RouteTarget, &ObjectKey)> {
        if self.id.resource != Resource::SiteRouteTarget {
            return None;
        }
        let target = self.id.asn.route_target(number)?;
        Some((target, self.users.get(&target)?))
    }

    /// What was held and is not wanted begins to rest; what has rested is free.
    fn release(&mut self, wanted: &[Demand]) {
        let holders: BTreeMap<&Holder, Option<u32>> =
            wanted.iter().map(|demand| (&demand.holder, demand.fixed)).collect();
        let now = self.circumstances.now;
        for (number, released) in &self.old.released {
            let rested = now.saturating_sub(released.at) >= QUARANTINE.as_secs();
            if !rested || self.circumstances.referenced.contains(&(self.id, *number)) {
                self.new.released.insert(*number, released.clone());
            }
        }
        for (holder, number) in &self.old.held {
            let keeps = match holders.get(holder) {
                Some(Some(fixed)) => fixed == number,
                Some(None) => true,
                None => false,
            };
            if !keeps {
                self.new.released.insert(*number, Released { holder: holder.clone(), at: now });
            }
        }
    }

    /// The number that a holder has, or had when it was last there.
    fn kept(&self, demand: &Demand) -> Option<u32> {
        let had = || {
            let back =
                |(number, released): (&u32, &Released)| (released.holder == demand.holder).then_some(*number);
            self.new.released.iter().find_map(back)
        };
        let number = self.old.held.get(&demand.holder).copied().or_else(had)?;
        // The range may be another one now.
        demand.range.contains(&number).then_some(number)
    }

    fn fill(&self, wanted: &[Demand], used: &mut BTreeMap<u32, Holder>, problems: &mut Vec<Problem>) {
        let have: BTreeSet<Holder> = used.values().cloned().collect();
        let mut next: Option<u32> = None;
        for demand in wanted.iter().filter(|demand| demand.fixed.is_none() && !have.contains(&demand.holder))
        {
            // A pool has one range, so that all below the last one given is gone.
            let start = next.unwrap_or(*demand.range.start());
            let free = (start..=*demand.range.end()).step_by(demand.pool.step() as usize).find(|number| {
                !used.contains_key(number)
                    && !self.new.released.contains_key(number)
                    && !self.circumstances.referenced.contains(&(self.id, *number))
                    && self.user_of(*number).is_none()
            });
            match free {
                Some(number) => {
                    used.insert(number, demand.holder.clone());
                    next = Some(number);
                }
                None => problems.push(self.exhausted(demand, used.len())),
            }
        }
    }

    fn exhausted(&self, demand: &Demand, holders: usize) -> Problem {
        let reason = format!(
            "no {} is left in {} to {} of AS {}: {holders} are held and {} rest after their release",
            self.id.resource,
            demand.range.start(),
            demand.range.end(),
            self.id.asn,
            self.new.released.len(),
        );
        let remedy = "remove what is not needed, or wait until released numbers have rested";
        Problem::new(&demand.object, "", Rule::Allocation, reason, remedy)
    }
}

/// User route targets that networks export, and who says so.
fn user_targets(intent: &Intent) -> BTreeMap<RouteTarget, ObjectKey> {
    let networks = intent.all::<VirtualNetwork>().flat_map(|(key, network)| {
        let exported = network.route_targets.both.iter().chain(&network.route_targets.export);
        exported.map(move |target| (*target, key.clone()))
    });
    let connections = intent.all::<Connection>().map(|(key, one)| (one.user_route_target, key.clone()));
    networks.chain(connections).collect()
}

/// All numbers that an intent needs, by object.
fn demands_of(intent: &Intent) -> Vec<Demand> {
    let mut demands = Vec::new();
    let asn_of = |cluster| intent.cluster(cluster).map(|cluster| cluster.asn);
    let mut want = |asn: Asn, resource, vnis, holder, object: &ObjectKey, fixed| {
        let pool = PoolId { asn, resource };
        demands.push(Demand { pool, range: pool.range(vnis), holder, object: object.clone(), fixed });
    };
    let topology = Topology::of(intent);
    let hosts = hosts(intent);
    for (key, network) in intent.all::<VirtualNetwork>() {
        let Some(cluster) = intent.cluster(&network.cluster) else { continue };
        let asn = cluster.asn;
        let holder = Holder::object(key);
        want(asn, Resource::RouteTarget, None, holder.clone(), key, None);
        want(asn, Resource::Vni, cluster.vnis, holder, key, network.vni);
        let layer2 = topology.networks.get(key).is_some_and(|place| place.bridged.is_some());
        for gateway in hosts.get(key).into_iter().flatten() {
            let layers = [(gateway.to_string(), true), (format!("{gateway}#l2"), layer2)];
            for (part, _) in layers.into_iter().filter(|(_, wanted)| *wanted) {
                let holder = Holder::part(key, &part);
                want(asn, Resource::Distinguisher, None, holder, key, None);
            }
        }
    }
    for (key, router) in intent.all::<VirtualNetworkRouter>() {
        let Some(asn) = asn_of(&router.cluster) else { continue };
        let parts = [
            (Part::Mesh, router.mesh.is_some()),
            (Part::Hub, router.hub_and_spoke.is_some()),
            (Part::Spoke, router.hub_and_spoke.is_some()),
        ];
        for (part, _) in parts.into_iter().filter(|(_, wanted)| *wanted) {
            let holder = Holder::part(key, part.name());
            want(asn, Resource::RouteTarget, None, holder, key, None);
        }
    }
    for (key, group) in intent.all::<SecurityGroup>().filter(|(_, group)| group.id.is_none()) {
        let Some(asn) = asn_of(&group.cluster) else { continue };
        want(asn, Resource::SecurityGroup, None, Holder::object(key), key, None);
    }
    for (key, site) in intent.all::<Site>() {
        let Some(asn) = asn_of(&site.cluster) else { continue };
        let port = site.listener_port.map(u32::from);
        want(asn, Resource::ListenerPort, None, Holder::object(key), key, port);
        let number = site.route_target_number;
        want(asn, Resource::SiteRouteTarget, None, Holder::object(key), key, number);
    }
    demands
}

impl Allocations {
    fn number(&self, asn: Asn, resource: Resource, holder: &Holder) -> Option<u32> {
        self.pools.get(&PoolId { asn, resource })?.held.get(holder).copied()
    }

    /// The route target that a target stands for, in a cluster of this AS.
    pub fn route_target(&self, asn: Asn, target: &Target) -> Option<RouteTarget> {
        let holder = match target {
            Target::User(target) => return Some(*target),
            Target::Network(key) => Holder::object(key),
            Target::Router(key, part) => Holder::part(key, part.name()),
        };
        asn.route_target(self.number(asn, Resource::RouteTarget, &holder)?)
    }

    /// The route distinguisher of a network at a gateway.
    pub fn distinguisher(&self, asn: Asn, network: &ObjectKey, gateway: &str) -> Option<RouteDistinguisher> {
        let holder = Holder::part(network, gateway);
        asn.distinguisher(self.number(asn, Resource::Distinguisher, &holder)?)
    }

    /// The route distinguisher of a network's bridge domain at a gateway.
    pub fn layer2_distinguisher(
        &self,
        asn: Asn,
        network: &ObjectKey,
        gateway: &str,
    ) -> Option<RouteDistinguisher> {
        self.distinguisher(asn, network, &format!("{gateway}#l2"))
    }

    /// The ID of a security group that names none itself.
    pub fn security_group(&self, asn: Asn, group: &ObjectKey) -> Option<u32> {
        self.number(asn, Resource::SecurityGroup, &Holder::object(group))
    }

    /// The VNI of a network.
    pub fn vni(&self, asn: Asn, network: &ObjectKey) -> Option<u32> {
        self.number(asn, Resource::Vni, &Holder::object(network))
    }

    /// The port on which controllers listen for a site.
    pub fn listener_port(&self, asn: Asn, site: &ObjectKey) -> Option<u16> {
        let number = self.number(asn, Resource::ListenerPort, &Holder::object(site))?;
        u16::try_from(number).ok()
    }

    /// All route targets of sites of an AS, those that rest too: routes with them
    /// may still be about.
    pub fn site_route_targets(&self, asn: Asn) -> impl Iterator<Item = RouteTarget> + '_ {
        self.all(asn, Resource::SiteRouteTarget).filter_map(move |number| asn.route_target(number))
    }

    /// All route distinguishers of an AS, those that rest too.
    pub fn distinguishers(&self, asn: Asn) -> impl Iterator<Item = RouteDistinguisher> + '_ {
        self.all(asn, Resource::Distinguisher).filter_map(move |number| asn.distinguisher(number))
    }

    fn all(&self, asn: Asn, resource: Resource) -> impl Iterator<Item = u32> + '_ {
        let pool = self.pools.get(&PoolId { asn, resource });
        pool.into_iter().flat_map(|pool| pool.held.values().chain(pool.released.keys())).copied()
    }

    /// The route target that everything from a site carries.
    pub fn site_route_target(&self, asn: Asn, site: &ObjectKey) -> Option<RouteTarget> {
        asn.route_target(self.number(asn, Resource::SiteRouteTarget, &Holder::object(site))?)
    }
}

#[cfg(test)]
mod tests;
