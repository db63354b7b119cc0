//! What is wrong with an intent: where, by which rule, why, and what to do.

use std::fmt;

use serde::Serialize;

use super::ObjectKey;
use super::located::Position;

/// The rules that an intent must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A file is YAML of a bounded size.
    Syntax,
    /// A document has the fields of its kind.
    Field,
    /// An object is declared once.
    DuplicateObject,
    /// What an object names is there, and of the same cluster.
    Reference,
    /// No two clusters have the same AS number.
    DuplicateAsn,
    /// No two gateways have the same name.
    DuplicateGateway,
    /// A gateway's control API is at a socket or behind TLS.
    Endpoint,
    /// Names of controllers are unique in a cluster; so are peers' addresses.
    DuplicateName,
    /// User route targets are outside of the ranges that clusters allocate.
    RouteTargetRange,
    /// One user route target is one connection's.
    RouteTargetTwice,
    /// User security group IDs are in their range and unique in a cluster.
    SecurityGroupId,
    /// VNIs are in their range and unique in an AS.
    Vni,
    /// Subnets of networks that can reach each other do not overlap.
    SubnetOverlap,
    /// Subnets, gateways and pools fit each other.
    Subnet,
    /// Addresses are in their network's subnets and given once.
    Address,
    /// A MAC is one endpoint's in its network.
    DuplicateMac,
    /// A port or VLAN of a gateway is one endpoint's.
    Attachment,
    /// Networks of a layer 2 connection have the same subnets.
    Layer2Subnets,
    /// Pools of a layer 2 connection's networks are disjoint.
    Layer2Pools,
    /// Network policy is for layer 3.
    Layer2Policy,
    /// An isolated network is connected by its own namespace only.
    Isolation,
    /// A router says mesh or hub and spoke, and nobody is both hub and spoke.
    Router,
    /// Ports, ICMP types and remotes of rules fit together.
    TrafficRule,
    /// Listener ports and route target numbers of sites are theirs alone.
    SiteNumber,
    /// A peer can announce what it must.
    Canary,
    /// BGP identifiers of a cluster's controllers are theirs alone.
    RouterId,
    /// A route reflector of a cluster is an internal peer, and no controller.
    Reflector,
    /// A site declares endpoints at its gateways and nothing else.
    SiteAuthority,
    /// Names fit the gateways' own limits.
    NameLength,
    /// What must be allocated is not exhausted or taken.
    Allocation,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// Line and column.
    pub position: Position,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.position.line, self.position.column)
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, if it stands in a file.
    pub place: Option<Place>,
    /// The object, as far as it is known.
    pub object: Option<ObjectKey>,
    /// Path of the field, such as `spec.subnets[1].prefix`; may be empty.
    pub field: String,
    /// The rule that is broken.
    pub rule: Rule,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem of an object's field.
    pub fn new(
        object: &ObjectKey,
        field: impl Into<String>,
        rule: Rule,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: None,
            object: Some(object.clone()),
            field: field.into(),
            rule,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, ": {}", self.remedy)?;
        }
        write!(f, " [{}]", self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_all_it_knows() {
        let object = ObjectKey::parse("VirtualNetwork/default/red").expect("a key");
        let mut problem = Problem::new(&object, "spec.vni", Rule::Vni, "7 is taken", "choose another");
        assert_eq!(
            problem.to_string(),
            "VirtualNetwork/default/red: spec.vni: 7 is taken: choose another [vni]"
        );
        let position = Position { line: 3, column: 8 };
        problem.place = Some(Place { file: "a.yaml".to_owned(), position });
        assert!(problem.to_string().starts_with("a.yaml:3:8: VirtualNetwork/"));
        assert_eq!(Rule::SubnetOverlap.to_string(), "subnet-overlap");
    }
}
