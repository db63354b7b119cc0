//! A controller's session, as a controller would have it.

use anyhow::{Context as _, bail};
use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::controller_message::Message as To;
use tieline_proto::v1::gateway_message::Message as From;
use tieline_proto::v1::operation::Operation;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Batches that are sent before the first is programmed.
const WINDOW: u64 = 48;

/// An open session.
#[derive(Debug)]
pub struct Session {
    requests: mpsc::Sender<v1::ControllerMessage>,
    replies: Streaming<v1::GatewayMessage>,
    next: u64,
}

impl Session {
    /// Begins one of a controller that synchronises.
    ///
    /// # Errors
    /// When the gateway does not answer with a hello.
    pub async fn open(channel: Channel, controller: &str) -> anyhow::Result<(Self, v1::GatewayHello)> {
        Self::begin(channel, controller, false).await
    }

    /// Begins one whose declarations stay.
    ///
    /// # Errors
    /// When the gateway does not answer with a hello.
    pub async fn lasting(channel: Channel, controller: &str) -> anyhow::Result<Self> {
        Ok(Self::begin(channel, controller, true).await?.0)
    }

    async fn begin(
        channel: Channel,
        controller: &str,
        lasting: bool,
    ) -> anyhow::Result<(Self, v1::GatewayHello)> {
        let (requests, receiver) = mpsc::channel(WINDOW as usize);
        let hello = v1::ControllerHello {
            lowest_revision: 1,
            highest_revision: 1,
            controller: controller.to_owned(),
            heartbeat_seconds: 600,
            software: "benchmark".to_owned(),
            lasting,
            ..Default::default()
        };
        requests.send(v1::ControllerMessage { message: Some(To::Hello(hello)) }).await?;
        let mut client = ControlClient::new(channel);
        let replies = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        let mut session = Self { requests, replies, next: 1 };
        match session.reply().await? {
            From::Hello(hello) => Ok((session, hello)),
            other => bail!("not a hello: {other:?}"),
        }
    }

    async fn reply(&mut self) -> anyhow::Result<From> {
        loop {
            let message = self.replies.message().await?.context("the session has ended")?;
            match message.message.context("an empty message")? {
                From::Heartbeat(_) => {}
                From::Closing(closing) => bail!("closed: {}", closing.message),
                other => return Ok(other),
            }
        }
    }

    async fn send(&mut self, operations: Vec<Operation>) -> anyhow::Result<()> {
        let operations = operations.into_iter().map(|one| v1::Operation { operation: Some(one) }).collect();
        let batch = v1::Batch { id: self.next, operations, ..Default::default() };
        self.next += 1;
        self.requests.send(v1::ControllerMessage { message: Some(To::Batch(batch)) }).await?;
        Ok(())
    }

    /// Sends batches, and waits until all of them are programmed.
    ///
    /// # Errors
    /// When something is refused, or the session ends.
    pub async fn program(&mut self, batches: impl Iterator<Item = Vec<Operation>>) -> anyhow::Result<()> {
        let mut batches = batches.peekable();
        let first = self.next;
        let mut programmed = 0;
        while batches.peek().is_some() || programmed < self.next - first {
            while self.next - first - programmed < WINDOW
                && let Some(batch) = batches.next()
            {
                self.send(batch).await?;
            }
            match self.reply().await? {
                From::Accepted(accepted) => {
                    if let Some(refused) = accepted.refused.first() {
                        bail!("refused: {refused:?}");
                    }
                }
                From::Programmed(_) => programmed += 1,
                other => bail!("not an acknowledgement: {other:?}"),
            }
        }
        Ok(())
    }

    /// Says that all is declared again; returns how much was withdrawn.
    ///
    /// # Errors
    /// When the session ends.
    pub async fn end_of_sync(&mut self) -> anyhow::Result<u64> {
        self.requests
            .send(v1::ControllerMessage { message: Some(To::EndOfSync(v1::EndOfSync { id: 1 })) })
            .await?;
        match self.reply().await? {
            From::Synced(synced) => Ok(synced.withdrawn),
            other => bail!("not synced: {other:?}"),
        }
    }
}
