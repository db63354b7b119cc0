//! From a user or the names in a certificate to a role.

use crate::certificate::CertificateName;
use crate::{Grant, Peer, Role, Via};

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
pub struct RoleEntry<G> {
    /// Whom it means.
    pub who: Who,
    /// What they may do.
    pub role: Role,
    /// What they are granted beside it.
    pub grant: G,
}

/// Who has which role. The first entry that means a peer counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles<G> {
    /// In the order of the configuration.
    pub entries: Vec<RoleEntry<G>>,
    /// Of users on the Unix socket that no entry means; root and the server's
    /// own user are operators.
    pub socket_role: Role,
}

impl<G: Grant> Roles<G> {
    /// A peer on the Unix socket; `own` is the server's user.
    pub fn on_socket(&self, uid: u32, own: u32) -> Peer<G> {
        let entry = self.entries.iter().find(|entry| entry.who == Who::User(uid));
        let default = if uid == 0 || uid == own { Role::Operator } else { self.socket_role };
        let role = entry.map_or(default, |entry| entry.role);
        Peer {
            name: format!("uid {uid}"),
            role,
            via: Via::Socket { uid },
            grant: entry.map(|entry| entry.grant.clone()).unwrap_or_default(),
        }
    }

    /// The holder of a certificate; `None` when none of its names has a role.
    pub fn by_certificate(&self, names: &[CertificateName], via: Via) -> Option<Peer<G>> {
        self.entries.iter().find_map(|entry| {
            let Who::Certificate(pattern) = &entry.who else { return None };
            let name = names.iter().find(|name| pattern.matches(name))?;
            Some(Peer { name: name.to_string(), role: entry.role, via, grant: entry.grant.clone() })
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

    /// Something to be granted.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Number(u32);

    impl Grant for Number {}

    #[test]
    fn the_first_entry_that_means_a_peer_counts() {
        let entry = |who, role, grant| RoleEntry { who, role, grant: Number(grant) };
        let roles = Roles {
            entries: vec![
                entry(Who::Certificate(pattern("ctl-a.example")), Role::Controller, 7),
                entry(Who::Certificate(pattern("*.example")), Role::ReadOnly, 8),
                entry(Who::User(5), Role::ReadOnly, 8),
            ],
            socket_role: Role::Controller,
        };
        let via = Via::Tls { address: "127.0.0.1:1".parse().expect("an address") };
        let peer = roles.by_certificate(&[domain("x"), domain("ctl-a.example")], via).expect("it has a role");
        assert_eq!((peer.name.as_str(), peer.role), ("ctl-a.example", Role::Controller));
        assert_eq!(peer.grant, Number(7));
        assert_eq!((roles.on_socket(5, 9).grant, roles.on_socket(6, 9).grant), (Number(8), Number(0)));
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
