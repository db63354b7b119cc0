//! From a user or the names in a certificate to a role.

use std::sync::Arc;

use super::certificate::CertificateName;
use super::rights::{Objects, Rights};
use super::{Peer, Role, Via};

/// Names of certificates: `*` stands for any characters but dots and slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// A sentence, when no name could ever match it.
    pub fn new(text: String) -> Result<Self, String> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{text:?} matches no name: use one such as \"ctl-*.example\" or \"spiffe://cluster-a/*\""
            ));
        }
        Ok(Self(text))
    }

    /// Whether a name is meant. Patterns with `://` mean URIs, others domains
    /// and common names; domains are alike in capitals and small letters.
    pub fn matches(&self, name: &CertificateName) -> bool {
        match name {
            CertificateName::Uri(name) => self.0.contains("://") && glob(&self.0, name),
            CertificateName::Domain(name) => {
                !self.0.contains("://") && glob(&self.0.to_ascii_lowercase(), &name.to_ascii_lowercase())
            }
        }
    }
}

/// Remembers the last star only, so it takes no more than the product of both
/// lengths. A later star makes an earlier one's choice final, which is right:
/// the earliest match leaves most to the rest. A separator that a star cannot
/// take ends the search.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else {
            let Some((at, taken)) = star else { return false };
            if matches!(name[taken], b'.' | b'/') {
                return false;
            }
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whom an entry means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Holders of certificates over TCP.
    Certificate(Pattern),
    /// A user on the Unix socket.
    User(u32),
}

/// One `[[api.roles]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleEntry {
    /// Whom it means.
    pub who: Who,
    /// What they may do.
    pub role: Role,
    /// The controllers that they may be; `None`: any.
    pub controllers: Option<Arc<[String]>>,
    /// What they may declare; `None`: what the role says.
    pub objects: Option<Arc<[Objects]>>,
}

/// Who has which role. The first entry that means a peer counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// In the order of the configuration.
    pub entries: Vec<RoleEntry>,
    /// Of users on the Unix socket that no entry means; root and the daemon's
    /// own user are operators.
    pub socket_role: Role,
}

impl Roles {
    /// A peer on the Unix socket; `own` is the daemon's user.
    pub fn on_socket(&self, uid: u32, own: u32) -> Peer {
        let entry = self.entries.iter().find(|entry| entry.who == Who::User(uid));
        let default = if uid == 0 || uid == own { Role::Operator } else { self.socket_role };
        let role = entry.map_or(default, |entry| entry.role);
        Peer {
            name: format!("uid {uid}"),
            role,
            via: Via::Socket { uid },
            controllers: entry.and_then(|entry| entry.controllers.clone()),
            rights: Rights::new(role, entry.and_then(|entry| entry.objects.clone())),
        }
    }

    /// The holder of a certificate; `None` when none of its names has a role.
    pub fn by_certificate(&self, names: &[CertificateName], via: Via) -> Option<Peer> {
        self.entries.iter().find_map(|entry| {
            let Who::Certificate(pattern) = &entry.who else { return None };
            let name = names.iter().find(|name| pattern.matches(name))?;
            let (role, controllers) = (entry.role, entry.controllers.clone());
            let rights = Rights::new(role, entry.objects.clone());
            Some(Peer { name: name.to_string(), role, via, controllers, rights })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text.to_owned()).expect("a good pattern")
    }

    fn domain(name: &str) -> CertificateName {
        CertificateName::Domain(name.to_owned())
    }

    fn uri(name: &str) -> CertificateName {
        CertificateName::Uri(name.to_owned())
    }

    #[test]
    fn patterns_mean_whole_labels_of_the_right_kind() {
        let good = [
            ("ctl-*.example", domain("ctl-1.example")),
            ("ctl-*.example", domain("CTL-.Example")),
            ("*", domain("admin")),
            ("a*b*c", domain("axbbxc")),
            ("*.*.example", domain("a.b.example")),
            ("*x.example", domain("axbx.example")),
            ("spiffe://a/*", uri("spiffe://a/ctl")),
        ];
        for (text, name) in good {
            assert!(pattern(text).matches(&name), "{text} {name}");
        }
        let bad = [
            ("ctl-*.example", domain("ctl-1.evil.example")),
            ("ctl-*.example", domain("ctl-1.example.evil")),
            ("ctl-*.example", domain("xctl-1.example")),
            ("*", domain("a.example")),
            ("*", domain("a/b")),
            ("ctl.example", domain("ctl-example")),
            ("spiffe://a/*", uri("spiffe://a/b/c")),
            ("spiffe://a/*", uri("spiffe://A/b")),
            // A common name that looks like a URI is none.
            ("spiffe://a/*", domain("spiffe://a/b")),
            ("*", uri("x")),
        ];
        for (text, name) in bad {
            assert!(!pattern(text).matches(&name), "{text} {name}");
        }
        assert!(Pattern::new(String::new()).is_err());
        assert!(Pattern::new("a b".to_owned()).is_err());
    }

    /// The same by trying everything.
    fn oracle(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                oracle(rest, name)
                    || matches!(name, [first, tail @ ..] if !b"./".contains(first) && oracle(pattern, tail))
            }
            ([one, rest @ ..], [other, tail @ ..]) => one == other && oracle(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_the_oracle_says(pattern in "[ab.*]{0,9}", name in "[ab.]{0,12}") {
            prop_assert_eq!(glob(&pattern, &name), oracle(pattern.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn the_first_entry_that_means_a_peer_counts() {
        let entry = |who, role, controllers: Option<&[&str]>| RoleEntry {
            who,
            role,
            controllers: controllers.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            objects: None,
        };
        let roles = Roles {
            entries: vec![
                entry(Who::Certificate(pattern("ctl-a.example")), Role::Controller, Some(&["a"])),
                entry(Who::Certificate(pattern("*.example")), Role::ReadOnly, None),
                entry(Who::User(5), Role::ReadOnly, None),
            ],
            socket_role: Role::Controller,
        };
        let via = Via::Tls { address: "127.0.0.1:1".parse().expect("an address") };
        let peer = roles.by_certificate(&[domain("x"), domain("ctl-a.example")], via).expect("it has a role");
        assert_eq!((peer.name.as_str(), peer.role), ("ctl-a.example", Role::Controller));
        assert!(peer.may_act_as("a") && !peer.may_act_as("b"));
        assert_eq!(roles.by_certificate(&[domain("y.example")], via).expect("a role").role, Role::ReadOnly);
        assert_eq!(roles.by_certificate(&[domain("uid 5"), domain("5")], via), None);
        assert_eq!(roles.by_certificate(&[], via), None);
        assert_eq!(roles.on_socket(5, 9).role, Role::ReadOnly);
        assert_eq!(roles.on_socket(6, 9).role, Role::Controller);
        assert_eq!(roles.on_socket(0, 9).role, Role::Operator);
        assert_eq!(roles.on_socket(9, 9).role, Role::Operator);
        assert_eq!(roles.on_socket(5, 5).role, Role::ReadOnly, "an entry counts before the default");
    }
}
