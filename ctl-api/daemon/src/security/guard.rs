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

use super::accounts::{Account, LimitReached};
use super::certificate::CertificateName;
use super::reply_body::ReplyBody;
use super::request_body::RequestBody;
use super::{Peer, Role};

/// Longest time that the refusal of one call too many is held back. It bounds
/// how fast a client can ask that does not heed refusals.
const LONGEST_REFUSAL: Duration = Duration::from_millis(100);
/// Names of a stranger that it is told.
const NAMES_SHOWN: usize = 4;

/// Who a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Somebody with a role.
    Known(Arc<Peer>),
    /// Somebody with a good certificate, in which these names stand, and none
    /// of them has a role.
    Stranger(Vec<CertificateName>),
}

/// What is asked for each call of one connection.
pub struct Guard {
    standing: Standing,
    account: Arc<Account>,
    routes: Routes,
}

/// What a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Least role.
    pub role: Role,
    /// Whether its reply may be large and is made at once.
    pub bulk: bool,
}

/// What the method at `path` needs. Of Tieline's services, methods that are
/// named Get, List, Preview or Watch only read; all others change something, also those
/// that are not known here.
pub fn needed(path: &str) -> Need {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or(("", path));
    let starts = |words: &[&str]| words.iter().any(|word| method.starts_with(word));
    if service.starts_with("grpc.") {
        // Health and reflection.
        return Need { role: Role::ReadOnly, bulk: false };
    }
    if starts(&["Get", "List", "Preview"]) {
        return Need { role: Role::ReadOnly, bulk: true };
    }
    let role = match service {
        _ if starts(&["Watch"]) => Role::ReadOnly,
        "tieline.v1.Operations" => Role::Operator,
        // What a controller holds is nobody else's to end.
        _ if starts(&["Forget"]) => Role::Operator,
        _ => Role::Controller,
    };
    Need { role, bulk: false }
}

impl Guard {
    /// The guard of one connection.
    pub fn new(standing: Standing, account: Arc<Account>, routes: Routes) -> Self {
        Self { standing, account, routes }
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
        let need = needed(request.uri().path());
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
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every method that exists, with what it needs: a new one is added here,
    /// after a thought.
    #[test]
    fn what_each_method_needs_is_on_purpose() {
        let read = Need { role: Role::ReadOnly, bulk: true };
        let program = Need { role: Role::Controller, bulk: false };
        for (path, need) in [
            ("/tieline.v1.Control/Get", read),
            ("/tieline.v1.Control/List", read),
            ("/tieline.v1.Control/Session", program),
            ("/tieline.v1.Control/ForgetController", Need { role: Role::Operator, bulk: false }),
            ("/tieline.v1.Control/Watch", Need { role: Role::ReadOnly, bulk: false }),
            ("/tieline.v1.Control/WatchExports", Need { role: Role::ReadOnly, bulk: false }),
            ("/tieline.v1.Operations/ListSessions", read),
            ("/tieline.v1.Operations/Drain", Need { role: Role::Operator, bulk: false }),
            ("/grpc.health.v1.Health/Check", Need { role: Role::ReadOnly, bulk: false }),
            ("/x.y/Unknown", program),
            ("Session", program),
            ("", program),
        ] {
            assert_eq!(needed(path), need, "{path}");
        }
        let set: FileDescriptorSet =
            prost::Message::decode(tieline_proto::DESCRIPTORS).expect("it has just been encoded");
        let services = set.file.iter().flat_map(|file| &file.service);
        let mut changing: Vec<String> = services
            .flat_map(|service| service.method.iter().map(move |method| (service.name(), method.name())))
            .filter(|(service, method)| {
                needed(&format!("/tieline.v1.{service}/{method}")).role > Role::ReadOnly
            })
            .map(|(service, method)| format!("{service}/{method}"))
            .collect();
        changing.sort();
        assert_eq!(changing, ["Control/ForgetController", "Control/Session"], "all others only read");
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
