//! Who declares decides what may be declared: a site has endpoints at its own
//! gateways, and nothing else.

use std::fmt;

use crate::intent::kinds::{Endpoint, Kind, Site};
use crate::intent::names::Name;
use crate::intent::problem::{Problem, Rule};
use crate::intent::{Intent, ObjectKey};

/// In whose name objects are declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Author {
    /// The operators of the whole.
    #[default]
    Central,
    /// Those of one site.
    Site(Name),
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Central => f.write_str("the center"),
            Self::Site(name) => write!(f, "site {name}"),
        }
    }
}

/// What is wrong with these objects being declared, changed or removed by this
/// author. `before` is the intent as it is, `after` as it would be.
pub fn check_author<'a>(
    author: &Author,
    before: &Intent,
    after: &Intent,
    objects: impl IntoIterator<Item = &'a ObjectKey>,
) -> Vec<Problem> {
    let Author::Site(name) = author else { return Vec::new() };
    let site = before.spec::<Site>(&ObjectKey::global(Kind::Site, name));
    let gateways = site.map_or(&[][..], |site| site.gateways.as_slice());
    let mut problems = Vec::new();
    for key in objects {
        let mut refuse = |field: &str, reason: String, remedy: &str| {
            problems.push(Problem::new(key, field, Rule::SiteAuthority, reason, remedy));
        };
        if site.is_none() {
            refuse("", format!("there is no site {name}"), "declare the site at the center first");
        } else if key.kind != Kind::Endpoint {
            let reason = format!("site {name} may declare endpoints, not a {}", key.kind);
            refuse("kind", reason, "declare it at the center");
        } else {
            let elsewhere = [before, after]
                .into_iter()
                .filter_map(|intent| intent.spec::<Endpoint>(key))
                .find(|endpoint| !gateways.contains(&endpoint.gateway));
            if let Some(endpoint) = elsewhere {
                let reason = format!("gateway {} is not at site {name}", endpoint.gateway);
                refuse("spec.gateway", reason, "name a gateway of the site");
            }
        }
    }
    problems
}
