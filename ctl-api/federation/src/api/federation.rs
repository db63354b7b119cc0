//! The service for looking into the running controller.

use std::pin::Pin;

use tieline_proto::federation::v1;
use tieline_proto::federation::v1::federation_server::{Federation, FederationServer};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::controller::journal::Page;
use crate::controller::questions::{Asker, Unanswered};

/// Replies that wait for a watcher.
const QUEUE: usize = 16;

/// The read-only view of a running controller.
#[derive(Debug, Clone)]
pub struct FederationService {
    controller: Asker,
}

impl FederationService {
    /// A view of the controller that this asks.
    pub const fn new(controller: Asker) -> Self {
        Self { controller }
    }

    /// For a listener.
    pub fn into_server(self) -> FederationServer<Self> {
        FederationServer::new(self)
    }
}

impl From<Unanswered> for Status {
    fn from(error: Unanswered) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// Tells a watcher what there is, and what comes if it follows, until one of the
/// two is gone.
async fn tell(
    controller: Asker,
    mut page: Page,
    follow: bool,
    sender: mpsc::Sender<Result<v1::WatchEventsReply, Status>>,
) {
    loop {
        let lost = page.lost.take().map(|lost| v1::WatchEventsReply { event: None, lost });
        let is_end = page.events.is_empty();
        let events = page.events.into_iter();
        let events = events.map(|event| v1::WatchEventsReply { event: Some(event), lost: String::new() });
        for reply in lost.into_iter().chain(events) {
            if sender.send(Ok(reply)).await.is_err() {
                return;
            }
        }
        if is_end {
            if !follow {
                return;
            }
            tokio::select! {
                changed = page.more.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
        page = match controller.events(Some(page.position)).await {
            Ok(page) => page,
            Err(error) => {
                // Who asked may be gone.
                let _ = sender.send(Err(error.into())).await;
                return;
            }
        };
    }
}

#[tonic::async_trait]
impl Federation for FederationService {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusReply>, Status> {
        Ok(Response::new(self.controller.status().await?))
    }

    async fn audit(&self, _: Request<v1::AuditRequest>) -> Result<Response<v1::AuditReply>, Status> {
        let audit = self.controller.audit().await?;
        let reply = audit.run().await.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(reply))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchEventsReply, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let v1::WatchEventsRequest { after, follow } = request.into_inner();
        let after = (!after.is_empty()).then(|| after.parse().map_err(Status::invalid_argument));
        let page = self.controller.events(after.transpose()?).await?;
        let (sender, replies) = mpsc::channel(QUEUE);
        tokio::spawn(tell(self.controller.clone(), page, follow, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }
}
