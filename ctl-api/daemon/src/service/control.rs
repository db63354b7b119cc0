//! Declaring objects and reading them back.

use tieline_proto::v1;
use tieline_proto::v1::control_server;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::status;
use crate::control::{BATCH, Control, Submission};

/// Operations of one stream that may be under way: one batch with the workers,
/// and one with the control thread. The client's next ones
/// stay in its connection until it has read replies.
const IN_FLIGHT: usize = 2 * BATCH;
/// Replies to one operation: accepted and programmed.
const REPLIES: usize = 2;

/// The service.
pub struct ControlService {
    control: Control,
}

impl ControlService {
    /// The service of a gateway.
    pub fn new(control: Control) -> Self {
        Self { control }
    }
}

type Replies = mpsc::Sender<Result<v1::ProgramReply, Status>>;

#[tonic::async_trait]
impl control_server::Control for ControlService {
    type ProgramStream = ReceiverStream<Result<v1::ProgramReply, Status>>;

    async fn program(
        &self,
        request: Request<Streaming<v1::ProgramRequest>>,
    ) -> Result<Response<Self::ProgramStream>, Status> {
        let (replies, receiver) = mpsc::channel(IN_FLIGHT * REPLIES);
        let control = self.control.clone();
        tokio::spawn(async move {
            if let Err(status) = feed(request.into_inner(), &control, &replies).await {
                // The client has gone, if it fails.
                let _ = replies.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let key = request.into_inner().key.ok_or_else(|| Status::invalid_argument("key: no key: set it"))?;
        let item = self.control.read(move |gateway| gateway.get(&key)).await?;
        match item.map_err(|refusal| status(&refusal))? {
            Some(item) => Ok(Response::new(v1::GetReply { item: Some(item) })),
            None => Err(Status::not_found("no such object is declared")),
        }
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let request = request.into_inner();
        let reply = self.control.read(move |gateway| gateway.list(&request)).await?;
        reply.map(Response::new).map_err(|refusal| status(&refusal))
    }
}

/// Takes operations out of a stream as long as there is room for the replies
/// to them. The stream of replies ends when the last reply is sent.
async fn feed(
    mut requests: Streaming<v1::ProgramRequest>,
    control: &Control,
    replies: &Replies,
) -> Result<(), Status> {
    loop {
        let slots = (replies.clone().reserve_owned().await, replies.clone().reserve_owned().await);
        // The client does not listen any more, and so is not told.
        let (Ok(verdict), Ok(programmed)) = slots else { return Ok(()) };
        let Some(request) = requests.message().await? else { return Ok(()) };
        control.submit(Submission { request, verdict, programmed }).await?;
    }
}
