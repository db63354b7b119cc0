//! Who may come in, what each may do, and how much of it.
//!
//! ```text
//!   Unix socket --uid----------+
//!                              +--> roles --> guard --> services
//!   TCP --tls--> certificate --+             |  |  |
//!                                 accounts --+  |  +-- reply_body
//!                                      request_body
//! ```
//!
//! - [`roles`]: from a user or the names in a certificate to a role
//! - [`rights`]: what each may declare
//! - [`certificate`]: what a certificate says about its holder
//! - [`tls`]: mutual TLS, its files and their replacement while running
//! - [`limits`]: how much of everything
//! - [`accounts`]: what each peer has open, and how fast it asks
//! - [`bucket`]: a rate, without a clock of its own
//! - [`unproven`], [`first_bytes`]: TCP clients that have not proved who they are,
//!   and connections that do not begin to speak
//! - [`guard`]: the one place that every call passes
//! - [`request_body`], [`reply_body`]: bounded memory in both directions

pub mod accounts;
pub mod bucket;
pub mod certificate;
pub mod first_bytes;
pub mod guard;
pub mod limits;
pub mod reply_body;
pub mod request_body;
pub mod rights;
pub mod roles;
pub mod tls;
pub mod unproven;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use tonic::{Request, Status};

use accounts::{Account, Accounts};
use rights::Rights;
use roles::Roles;

/// What a peer may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Get, list and watch.
    ReadOnly,
    /// Program, as itself.
    Controller,
    /// Program, and operate the gateway itself.
    Operator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Controller => "controller",
            Self::Operator => "operator",
        })
    }
}

/// How a peer has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The Unix socket.
    Socket {
        /// Its user, as the kernel says.
        uid: u32,
    },
    /// TCP, with a certificate.
    Tls {
        /// Where it comes from.
        address: SocketAddr,
    },
}

/// Who makes a call. Services find it in the request: see [`peer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The name in its certificate that has the role, or `uid N`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it has come in.
    pub via: Via,
    /// The controllers that it may be; `None`: any.
    pub controllers: Option<Arc<[String]>>,
    /// What it may declare.
    pub rights: Rights,
}

impl Peer {
    /// Whether it may program as the controller of this name.
    pub fn may_act_as(&self, controller: &str) -> bool {
        self.role >= Role::Controller
            && self.controllers.as_ref().is_none_or(|names| names.iter().any(|name| name == controller))
    }

    /// Refuses a peer whose role does not reach; `what` is what it wants.
    ///
    /// # Errors
    /// PERMISSION_DENIED, with the name that was seen.
    pub fn check(&self, needed: Role, what: &str) -> Result<(), Status> {
        if self.role >= needed {
            return Ok(());
        }
        let enough = match needed {
            Role::ReadOnly | Role::Operator => needed.to_string(),
            Role::Controller => format!("{needed} or {}", Role::Operator),
        };
        Err(Status::permission_denied(format!(
            "{} has the role {}, and {what} needs {enough}: give it that role in [[api.roles]], \
             or come with another identity",
            self.name, self.role
        )))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.role)?;
        if let Via::Tls { address } = self.via {
            write!(f, ", {address}")?;
        }
        f.write_str(")")
    }
}

/// Who makes this call.
///
/// # Errors
/// When the call has not come in through the guard.
pub fn peer<T>(request: &Request<T>) -> Result<&Arc<Peer>, Status> {
    request
        .extensions()
        .get::<Arc<Peer>>()
        .ok_or_else(|| Status::internal("the call has no peer: it has not come in through the guard"))
}

/// The account of whoever makes this call.
///
/// # Errors
/// When the call has not come in through the guard.
pub fn account<T>(request: &Request<T>) -> Result<&Arc<Account>, Status> {
    request
        .extensions()
        .get::<Arc<Account>>()
        .ok_or_else(|| Status::internal("the call has no account: it has not come in through the guard"))
}

/// What decides about peers, for all connections.
pub struct Security {
    /// Who has which role.
    pub roles: Roles,
    /// What each has open.
    pub accounts: Arc<Accounts>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer_with(role: Role, controllers: Option<&[&str]>) -> Peer {
        Peer {
            name: "ctl-a.example".to_owned(),
            role,
            via: Via::Socket { uid: 7 },
            controllers: controllers.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            rights: Rights::new(role, None),
        }
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        let roles = [Role::ReadOnly, Role::Controller, Role::Operator];
        for (at, role) in roles.into_iter().enumerate() {
            for (needed_at, needed) in roles.into_iter().enumerate() {
                let verdict = peer_with(role, None).check(needed, "Program");
                assert_eq!(verdict.is_ok(), at >= needed_at, "{role} {needed}");
            }
        }
        let refused = peer_with(Role::ReadOnly, None).check(Role::Controller, "Program").expect_err("no");
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        for word in ["ctl-a.example", "read-only", "Program", "controller or operator"] {
            assert!(refused.message().contains(word), "{refused}");
        }
    }

    #[test]
    fn a_peer_acts_as_the_controllers_that_it_may() {
        assert!(peer_with(Role::Controller, None).may_act_as("anyone"));
        let tied = peer_with(Role::Controller, Some(&["cluster-a", "cluster-b"]));
        assert!(tied.may_act_as("cluster-a") && tied.may_act_as("cluster-b"));
        assert!(!tied.may_act_as("cluster-c") && !tied.may_act_as("cluster"));
        assert!(!peer_with(Role::Controller, Some(&[])).may_act_as(""));
        assert!(!peer_with(Role::ReadOnly, None).may_act_as("cluster-a"));
    }

    #[test]
    fn services_find_their_peer() {
        let mut request = Request::new(());
        assert_eq!(peer(&request).expect_err("nobody").code(), tonic::Code::Internal);
        request.extensions_mut().insert(Arc::new(peer_with(Role::Controller, None)));
        assert_eq!(peer(&request).expect("it is one").name, "ctl-a.example");
    }
}
