//! A controller's session, as a controller would have it.

use std::time::Duration;

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
/// How often a device that is being opened is looked at.
const DEVICE_PAUSE: Duration = Duration::from_millis(5);

/// An open session.
#[derive(Debug)]
pub struct Session {
    requests: mpsc::Sender<v1::ControllerMessage>,
    replies: Streaming<v1::GatewayMessage>,
    client: ControlClient<Channel>,
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
        let mut session = Self { requests, replies, client, next: 1 };
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

    /// Sends batches, and waits until all of them are programmed and the devices
    /// of their ports are open.
    ///
    /// # Errors
    /// When something is refused, or the session ends.
    pub async fn program(&mut self, batches: impl Iterator<Item = Vec<Operation>>) -> anyhow::Result<()> {
        let mut batches = batches.peekable();
        let first = self.next;
        let mut programmed = 0;
        let mut ports = Vec::new();
        while batches.peek().is_some() || programmed < self.next - first {
            while self.next - first - programmed < WINDOW
                && let Some(batch) = batches.next()
            {
                ports.extend(batch.iter().filter_map(port_of));
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
        for port in ports {
            self.open_port(port).await?;
        }
        Ok(())
    }

    /// Waits until the device of a port is open.
    async fn open_port(&mut self, name: String) -> anyhow::Result<()> {
        loop {
            let key = v1::ObjectKey { kind: Some(v1::object_key::Kind::Port(name.clone())) };
            let request = v1::GetRequest { key: Some(key), ..Default::default() };
            let item = self.client.get(request).await?.into_inner().item;
            let status = item.and_then(|item| item.status).context("a port without a status")?;
            match status.state() {
                v1::ObjectState::Ready => return Ok(()),
                v1::ObjectState::Pending => tokio::time::sleep(DEVICE_PAUSE).await,
                _ => bail!("port {name}: {}", status.message),
            }
        }
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

/// The name of the port that an operation declares.
fn port_of(operation: &Operation) -> Option<String> {
    match operation {
        Operation::Apply(v1::Object { kind: Some(v1::object::Kind::Port(port)) }) => Some(port.name.clone()),
        _ => None,
    }
}
