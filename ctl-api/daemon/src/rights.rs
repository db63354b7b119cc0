//! What a peer may declare, and in whose name.

use std::fmt;
use std::sync::Arc;

use tieline_gate::{Grant, Role};
use tieline_rib::{Key, Refusal, RouteDistinguisher};
use tonic::{Request, Status};

/// Kinds of objects, as entries of `objects` in `[[api.roles]]` name them.
const KINDS: [&str; 8] =
    ["port", "interface", "vrf", "next_hop", "next_hop_group", "route", "security_group", "static_route"];
/// The kind whose objects take devices of the host.
const PORT: &str = "port";
/// The kind whose objects go by their route distinguisher.
const ROUTE: &str = "route";

/// Who makes a call.
pub type Peer = tieline_gate::Peer<Grants>;

/// What an entry of `[[api.roles]]` grants beside a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The controllers that its peers may be; `None`: any.
    pub controllers: Option<Arc<[String]>>,
    /// What they may declare; `None`: what the role says.
    pub objects: Option<Arc<[Objects]>>,
}

impl Grant for Grants {}

/// Who makes this call.
///
/// # Errors
/// When the call has not come in through the gate.
pub fn peer<T>(request: &Request<T>) -> Result<&Arc<Peer>, Status> {
    tieline_gate::peer(request)
}

/// Whether a peer may program as the controller of this name.
pub fn may_act_as(peer: &Peer, controller: &str) -> bool {
    let controllers = peer.grant.controllers.as_ref();
    peer.role >= Role::Controller
        && controllers.is_none_or(|names| names.iter().any(|name| name == controller))
}

/// Which objects a peer may declare. What it has declared it may always
/// withdraw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Whether it is an operator.
    pub operator: bool,
    /// `None`: what its role says.
    objects: Option<Arc<[Objects]>>,
}

/// One entry of `objects`: a kind, or some of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    kind: &'static str,
    names: Names,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Any,
    One(String),
    Beginning(String),
}

impl Objects {
    /// Reads an entry: `vrf`, `vrf:red` or `vrf:red-*`.
    ///
    /// # Errors
    /// A sentence, when it means nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, names) = match text.split_once(':') {
            None => (text, None),
            Some((kind, names)) => (kind, Some(names)),
        };
        let Some(kind) = KINDS.into_iter().find(|known| *known == kind) else {
            return Err(format!("{text:?}: {kind:?} is no kind of object; there are {}", KINDS.join(", ")));
        };
        let names = match names {
            None => Names::Any,
            Some(names) => {
                let (start, all) = names.strip_suffix('*').map_or((names, false), |start| (start, true));
                if start.contains('*') || (start.is_empty() && !all) {
                    return Err(format!(
                        "{text:?}: behind the colon stands a name, or the beginning of names and a star: \
                         \"{kind}:red-*\""
                    ));
                }
                if all { Names::Beginning(start.to_owned()) } else { Names::One(start.to_owned()) }
            }
        };
        Ok(Self { kind, names })
    }

    fn mean(&self, kind: &str, name: &str) -> bool {
        self.kind == kind
            && match &self.names {
                Names::Any => true,
                Names::One(one) => one == name,
                Names::Beginning(start) => name.starts_with(start.as_str()),
            }
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.names {
            Names::Any => f.write_str(self.kind),
            Names::One(name) => write!(f, "{}:{name}", self.kind),
            Names::Beginning(start) => write!(f, "{}:{start}*", self.kind),
        }
    }
}

impl Rights {
    /// Everything.
    pub const ALL: Rights = Rights { operator: true, objects: None };

    /// Those of a peer.
    pub fn of(peer: &Peer) -> Self {
        Self::new(peer.role, peer.grant.objects.clone())
    }

    /// Those of a role, or of the entry that says which objects.
    pub fn new(role: Role, objects: Option<Arc<[Objects]>>) -> Self {
        Self { operator: role >= Role::Operator, objects }
    }

    /// Whether an object may be declared.
    ///
    /// # Errors
    /// When it may not; says what would let it.
    pub fn check(&self, key: &Key) -> Result<(), Refusal> {
        let (kind, name) = of(key);
        self.check_named(kind, &name)
    }

    /// Whether routes of a route distinguisher may be declared.
    ///
    /// # Errors
    /// When they may not; says what would let them.
    pub fn check_routes(&self, rd: RouteDistinguisher) -> Result<(), Refusal> {
        match &self.objects {
            // The text is for those who are bound to some.
            None => Ok(()),
            Some(_) => self.check_named(ROUTE, &rd.to_string()),
        }
    }

    fn check_named(&self, kind: &'static str, name: &str) -> Result<(), Refusal> {
        match &self.objects {
            None if self.operator || kind != PORT => Ok(()),
            None => Err(Refusal::permission(
                PORT,
                "only operators may declare ports, and whoever has objects = [\"port\", ...] in its entry of \
                 [[api.roles]] in the gateway's configuration",
            )),
            Some(objects) if objects.iter().any(|objects| objects.mean(kind, name)) => Ok(()),
            Some(objects) => {
                let some: Vec<String> = objects.iter().map(Objects::to_string).collect();
                let may = if some.is_empty() { "nothing".to_owned() } else { some.join(", ") };
                Err(Refusal::permission(
                    kind,
                    format!(
                        "{kind}:{name} may not be declared: [[api.roles]] in the gateway's configuration allows {may}"
                    ),
                ))
            }
        }
    }
}

/// Kind and name of an object, as entries mean them.
fn of(key: &Key) -> (&'static str, String) {
    match key {
        Key::Port(name) => (PORT, name.to_string()),
        Key::Interface(name) => ("interface", name.to_string()),
        Key::Vrf(name) => ("vrf", name.to_string()),
        Key::NextHop(name) => ("next_hop", name.to_string()),
        Key::NextHopGroup(name) => ("next_hop_group", name.to_string()),
        Key::Route(rd, _) => (ROUTE, rd.to_string()),
        Key::SecurityGroup(id) => ("security_group", id.0.to_string()),
        Key::StaticRoute(vrf, _) => ("static_route", vrf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tieline_engine::types::SgId;
    use tieline_gate::Via;
    use tieline_proto::v1::ErrorCode;
    use tieline_rib::Name;

    use super::*;

    fn rights(role: Role, objects: Option<&[&str]>) -> Rights {
        let parse = |text: &&str| Objects::parse(text).expect("an entry");
        Rights::new(role, objects.map(|all| all.iter().map(parse).collect()))
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn keys() -> Vec<Key> {
        let (rd, prefix) = ("64512:1".parse().expect("an RD"), "10.0.0.0/8".parse().expect("a prefix"));
        vec![
            Key::Port(name("p")),
            Key::Interface(name("p")),
            Key::Vrf(name("p")),
            Key::NextHop(name("p")),
            Key::NextHopGroup(name("p")),
            Key::Route(rd, prefix),
            Key::SecurityGroup(SgId(7)),
            Key::StaticRoute(name("p"), prefix),
        ]
    }

    fn peer_with(role: Role, controllers: Option<&[&str]>) -> Peer {
        let controllers = controllers.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let (name, via) = ("ctl-a.example".to_owned(), Via::Socket { uid: 7 });
        Peer { name, role, via, grant: Grants { controllers, objects: None } }
    }

    #[test]
    fn a_peer_acts_as_the_controllers_that_it_may() {
        assert!(may_act_as(&peer_with(Role::Controller, None), "anyone"));
        let tied = peer_with(Role::Controller, Some(&["cluster-a", "cluster-b"]));
        assert!(may_act_as(&tied, "cluster-a") && may_act_as(&tied, "cluster-b"));
        assert!(!may_act_as(&tied, "cluster-c") && !may_act_as(&tied, "cluster"));
        assert!(!may_act_as(&peer_with(Role::Controller, Some(&[])), ""));
        assert!(!may_act_as(&peer_with(Role::ReadOnly, None), "cluster-a"));
    }

    #[test]
    fn only_operators_declare_ports_unless_it_is_granted() {
        for key in keys() {
            assert_eq!(rights(Role::Operator, None).check(&key), Ok(()));
            let verdict = rights(Role::Controller, None).check(&key);
            assert_eq!(verdict.is_ok(), !matches!(key, Key::Port(_)), "{key}");
            assert_eq!(rights(Role::Controller, Some(&KINDS)).check(&key), Ok(()));
            let refusal = rights(Role::Controller, Some(&[])).check(&key).expect_err("nothing is allowed");
            assert_eq!(refusal.code, ErrorCode::Permission);
            assert!(refusal.message.contains("api.roles"), "{refusal}");
        }
    }

    #[test]
    fn entries_mean_a_kind_a_name_or_a_beginning() {
        let some =
            rights(Role::Operator, Some(&["vrf:red-*", "interface", "route:64512:1", "security_group:7"]));
        let may = |key: Key| some.check(&key).is_ok();
        assert!(
            may(Key::Vrf(name("red-1"))) && may(Key::Vrf(name("red-"))) && may(Key::Interface(name("x")))
        );
        assert!(
            !may(Key::Vrf(name("red"))) && !may(Key::Vrf(name("x"))) && !may(Key::NextHop(name("red-1")))
        );
        assert!(may(keys()[5].clone()) && may(keys()[6].clone()) && !may(keys()[0].clone()));
        let refusal = some.check(&Key::Vrf(name("blue"))).expect_err("another name");
        assert!(refusal.message.contains("vrf:blue") && refusal.message.contains("vrf:red-*"), "{refusal}");
        for text in ["", "vrfs", "vrf:", "vrf:a*b", "vrf:**", "*", "vrf:*x"] {
            assert!(Objects::parse(text).is_err(), "{text}");
        }
        for text in ["vrf", "vrf:*", "vrf:a", "route:64512:*"] {
            assert_eq!(Objects::parse(text).expect("an entry").to_string(), text);
        }
    }
}
