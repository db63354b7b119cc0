//! The one place that every call passes: is this peer allowed to, and is it not
//! too much?

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use crate::accounts::{Account, LimitReached};
use crate::certificate::CertificateName;
use crate::reply_body::ReplyBody;
use crate::request_body::RequestBody;
use crate::{Grant, Peer, Role};

/// Longest time that the refusal of one call too many is held back. It bounds
/// how fast a client can ask that does not heed refusals.
const LONGEST_REFUSAL: Duration = Duration::from_millis(100);
/// Names of a stranger that it is told.
const NAMES_SHOWN: usize = 4;

/// Who a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<G> {
    /// Somebody with a role.
    Known(Arc<Peer<G>>),
    /// Somebody with a good certificate, in which these names stand, and none
    /// of them has a role.
    Stranger(Vec<CertificateName>),
}

/// What is asked for each call of one connection.
pub struct Guard<G> {
    standing: Standing<G>,
    account: Arc<Account>,
    routes: Routes,
    needs: Needs,
}

/// What a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Least role.
    pub role: Role,
    /// Whether its reply may be large and is made at once.
    pub bulk: bool,
}

/// What a server's methods need, by their path (`/package.Service/Method`), those
/// that it does not know among them.
pub type Needs = fn(&str) -> Need;

/// What the method at `path` needs: health and reflection are alike everywhere.
fn needed(path: &str, needs: Needs) -> Need {
    if path.trim_start_matches('/').starts_with("grpc.") {
        return Need { role: Role::ReadOnly, bulk: false };
    }
    needs(path)
}

impl<G: Grant> Guard<G> {
    /// The guard of one connection.
    pub fn new(standing: Standing<G>, account: Arc<Account>, routes: Routes, needs: Needs) -> Self {
        Self { standing, account, routes, needs }
    }

    /// Answers a call.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.pass(request).await {
            Ok(response) => response,
            Err(status) => status.into_http(),
        }
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let call = self.account.call().map_err(|limit| self.too_many(limit))?;
        if let Err(wait) = self.account.request(Instant::now()) {
            tokio::time::sleep(wait.min(LONGEST_REFUSAL)).await;
            return Err(self.too_fast());
        }
        let peer = match &self.standing {
            Standing::Known(peer) => peer,
            Standing::Stranger(names) => return Err(unknown(names)),
        };
        let need = needed(request.uri().path(), self.needs);
        peer.check(need.role, request.uri().path().trim_start_matches('/'))?;
        let turn = match need.bulk {
            false => None,
            true => Some(self.account.read().await.ok_or_else(|| self.too_many_reads())?),
        };
        let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&self.account)));
        request.extensions_mut().insert(Arc::clone(peer));
        request.extensions_mut().insert(Arc::clone(&self.account));
        let Ok(response) = self.routes.clone().call(request).await;
        let patience = self.account.limits().stalled;
        Ok(response.map(|body| {
            Body::new(match turn {
                None => ReplyBody::new(body, call),
                Some(turn) => ReplyBody::limited(body, call, turn, patience),
            })
        }))
    }

    fn name(&self) -> &str {
        match &self.standing {
            Standing::Known(peer) => &peer.name,
            Standing::Stranger(_) => "a peer without a role",
        }
    }

    fn too_many(&self, LimitReached { key, value }: LimitReached) -> Status {
        Status::resource_exhausted(format!(
            "{} has as many calls open as {key} = {value} allows: end some first",
            self.name()
        ))
    }

    fn too_fast(&self) -> Status {
        Status::resource_exhausted(format!(
            "{} makes more calls than api.limits.requests_per_second = {}: make fewer, or use a stream",
            self.name(),
            self.account.limits().requests_per_second
        ))
    }

    fn too_many_reads(&self) -> Status {
        Status::resource_exhausted(format!(
            "{} already reads api.limits.reads_per_peer = {} replies, and takes none of them: read them first",
            self.name(),
            self.account.limits().reads_per_peer
        ))
    }
}

fn unknown(names: &[CertificateName]) -> Status {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(ToString::to_string).collect();
    let seen = match (shown.is_empty(), names.len() > NAMES_SHOWN) {
        (true, _) => "the certificate names nobody".to_owned(),
        (false, more) => {
            format!("the certificate is of {}{}", shown.join(", "), if more { ", ..." } else { "" })
        }
    };
    Status::permission_denied(format!("{seen}, and that has no role here: add it to [[api.roles]]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_read_asks_for_health_and_everything_else_is_up_to_the_server() {
        let all = |_: &str| Need { role: Role::Operator, bulk: true };
        for path in
            ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
        {
            assert_eq!(needed(path, all), Need { role: Role::ReadOnly, bulk: false }, "{path}");
        }
        for path in ["/x.grpc.v1.X/Get", "/grpcx/Get", "", "/"] {
            assert_eq!(needed(path, all), all(path), "{path}");
        }
    }

    #[test]
    fn a_stranger_is_told_what_was_seen() {
        let names: Vec<_> = (0..6).map(|n| CertificateName::Domain(format!("x{n}.example"))).collect();
        let status = unknown(&names);
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert!(status.message().contains("x0.example, x1.example, x2.example, x3.example, ..."), "{status}");
        assert!(unknown(&names[..1]).message().contains("of x0.example, and"), "{status}");
        assert!(unknown(&[]).message().contains("names nobody"));
    }
}
