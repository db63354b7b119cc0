//! Where clients come into a gRPC server: who they are, what each may do, and
//! how much of it.
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
//! - [`certificate`]: what a certificate says about its holder
//! - [`tls`]: mutual TLS, its files and their replacement while running, at a
//!   signal too ([`signals`])
//! - [`limits`]: how much of everything
//! - [`accounts`]: what each peer has open, and how fast it asks
//! - [`bucket`]: a rate, without a clock of its own
//! - [`unproven`], [`first_bytes`]: TCP clients that have not proved who they are,
//!   and connections that do not begin to speak
//! - [`guard`]: the one place that every call passes
//! - [`request_body`], [`reply_body`]: bounded memory in both directions
//! - [`config`]: what the configuration of every server says about these
//! - [`server`]: the connections, each with a guard
//! - [`services`]: what is served, with its health and its description
//!
//! A server says three things of its own: its services; what each of their methods
//! needs ([`guard::Need`]); and what the configuration can grant beside a role
//! ([`Grant`]).

pub mod accounts;
pub mod bucket;
pub mod certificate;
pub mod config;
pub mod first_bytes;
pub mod guard;
pub mod limits;
pub mod reply_body;
pub mod request_body;
pub mod roles;
pub mod server;
pub mod services;
pub mod signals;
pub mod tls;
pub mod unproven;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use tonic::{Request, Status};

use accounts::{Account, Accounts};
use roles::Roles;

/// What an entry of `[[api.roles]]` can grant beside a role, in the words of one
/// server. The default is for peers that no entry means.
pub trait Grant: fmt::Debug + Clone + Default + PartialEq + Eq + Send + Sync + 'static {}

/// Roles are all there is.
impl Grant for () {}

/// What a peer may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Get, list and watch.
    ReadOnly,
    /// Declare, as itself.
    Controller,
    /// Declare, and operate the server itself.
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
pub struct Peer<G> {
    /// The name in its certificate that has the role, or `uid N`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it has come in.
    pub via: Via,
    /// What it was granted beside the role.
    pub grant: G,
}

impl<G> Peer<G> {
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

impl<G> fmt::Display for Peer<G> {
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
pub fn peer<G: Grant, T>(request: &Request<T>) -> Result<&Arc<Peer<G>>, Status> {
    request
        .extensions()
        .get::<Arc<Peer<G>>>()
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
pub struct Security<G> {
    /// Who has which role.
    pub roles: Roles<G>,
    /// What each has open.
    pub accounts: Arc<Accounts>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer_with(role: Role) -> Peer<()> {
        Peer { name: "ctl-a.example".to_owned(), role, via: Via::Socket { uid: 7 }, grant: () }
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        let roles = [Role::ReadOnly, Role::Controller, Role::Operator];
        for (at, role) in roles.into_iter().enumerate() {
            for (needed_at, needed) in roles.into_iter().enumerate() {
                let verdict = peer_with(role).check(needed, "Program");
                assert_eq!(verdict.is_ok(), at >= needed_at, "{role} {needed}");
            }
        }
        let refused = peer_with(Role::ReadOnly).check(Role::Controller, "Program").expect_err("no");
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        for word in ["ctl-a.example", "read-only", "Program", "controller or operator"] {
            assert!(refused.message().contains(word), "{refused}");
        }
    }

    #[test]
    fn services_find_their_peer() {
        let mut request = Request::new(());
        assert_eq!(peer::<(), _>(&request).expect_err("nobody").code(), tonic::Code::Internal);
        request.extensions_mut().insert(Arc::new(peer_with(Role::Controller)));
        assert_eq!(peer::<(), _>(&request).expect("it is one").name, "ctl-a.example");
    }
}
