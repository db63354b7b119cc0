//! Sessions of controllers, and reading back what they declare.

use std::sync::Arc;

use tieline_gate::{Role, account};
use tieline_proto::v1;
use tieline_proto::v1::control_server;
use tokio::sync::Mutex;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::session::{Client, Sessions};
use super::{preview, status, watch};
use crate::gateway::{Gateway, NotForgotten};
use crate::replies::{self, ReplyStream};
use crate::rights::{Rights, peer};

/// The service.
pub struct ControlService {
    sessions: Sessions,
    /// One caller at a time has a copy of everything.
    one_preview: Arc<Mutex<()>>,
}

impl ControlService {
    /// The service of a gateway.
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions, one_preview: Arc::default() }
    }
}

#[tonic::async_trait]
impl control_server::Control for ControlService {
    type SessionStream = ReplyStream;

    async fn session(
        &self,
        request: Request<Streaming<v1::ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = Arc::clone(peer(&request)?);
        let account = Arc::clone(account(&request)?);
        let (replies, stream) = replies::replies(&account);
        tokio::spawn(self.sessions.clone().run(request.into_inner(), replies, Client { peer, account }));
        Ok(Response::new(stream))
    }

    async fn preview(
        &self,
        request: Request<v1::PreviewRequest>,
    ) -> Result<Response<v1::PreviewReply>, Status> {
        let rights = match peer(&request)? {
            peer if peer.role >= Role::Controller => Rights::of(peer),
            // Who may only read asks for others.
            _ => Rights::ALL,
        };
        let _guard = Arc::clone(&self.one_preview).lock_owned().await;
        preview::preview(&self.sessions.control, request.into_inner(), rights).await.map(Response::new)
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let v1::GetRequest { key, controller } = request.into_inner();
        let key = key.ok_or_else(|| Status::invalid_argument("key: no key: set it"))?;
        let item = self.sessions.control.read(move |gateway| gateway.get(&key, &controller)).await?;
        match item.map_err(|refusal| status(&refusal))? {
            Some(item) => Ok(Response::new(v1::GetReply { item: Some(item) })),
            None => Err(Status::not_found("no such object is declared")),
        }
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let request = request.into_inner();
        let reply = self.sessions.control.read(move |gateway| gateway.list(&request)).await?;
        reply.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn list_controllers(
        &self,
        _: Request<v1::ListControllersRequest>,
    ) -> Result<Response<v1::ListControllersReply>, Status> {
        let controllers = self.sessions.control.read(Gateway::controllers).await?;
        Ok(Response::new(v1::ListControllersReply { controllers }))
    }

    async fn forget_controller(
        &self,
        request: Request<v1::ForgetControllerRequest>,
    ) -> Result<Response<v1::ForgetControllerReply>, Status> {
        let peer = peer(&request)?.to_string();
        let v1::ForgetControllerRequest { controller, withdraw } = request.into_inner();
        let name = controller.clone();
        let forget = move |gateway: &mut Gateway| match gateway.forget_controller(&name, withdraw) {
            Ok((withdrawn, version)) => (Ok(withdrawn), version),
            Err(reason) => (Err(reason), 0),
        };
        let withdrawn = self.sessions.control.change(forget).await?.map_err(|reason| {
            let message = format!("controller {controller:?} is not forgotten: {reason}");
            match reason {
                NotForgotten::Unknown => Status::not_found(message),
                NotForgotten::Connected | NotForgotten::Holds(_) => Status::failed_precondition(message),
            }
        })?;
        tracing::info!(controller, withdrawn, by = peer, "controller forgotten");
        Ok(Response::new(v1::ForgetControllerReply { withdrawn: withdrawn as u64 }))
    }

    type WatchStream = ReceiverStream<Result<v1::WatchReply, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let boot_id = self.sessions.about.boot_id.clone();
        let receiver = watch::watch(self.sessions.control.clone(), boot_id, request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type WatchExportsStream = ReceiverStream<Result<v1::WatchExportsReply, Status>>;

    async fn watch_exports(
        &self,
        request: Request<v1::WatchExportsRequest>,
    ) -> Result<Response<Self::WatchExportsStream>, Status> {
        let receiver = watch::watch_exports(self.sessions.control.clone(), request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
