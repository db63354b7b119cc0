//! A client of Tieline's API, as a controller would be, but waiting.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::operations_client::OperationsClient;
use tieline_proto::v1::program_reply::Outcome;
use tieline_proto::v1::program_request::Operation;
use tieline_proto::v1::{GetDropsRequest, GetStatsReply, GetStatsRequest, Object, ProgramRequest};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::Reading;

/// Most operations under way.
const WINDOW: usize = 1000;
/// Largest reply, bytes: thousands of interfaces with their counters.
const MAX_REPLY: usize = 64 << 20;
/// Time for the answer to one question.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Packets since the daemon's start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// By all doors in.
    pub received: u64,
    /// Sent.
    pub transmitted: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
}

/// A connection to the daemon.
pub struct Api {
    runtime: Runtime,
    channel: Channel,
}

impl Api {
    /// Connects to the socket of a daemon that is ready.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?;
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| format!("cannot reach the daemon at {}", socket.display()))?;
        Ok(Self { runtime, channel })
    }

    /// Declares objects and waits until every worker forwards by them.
    pub fn program(&self, objects: Vec<Object>, limit: Duration) -> Result<()> {
        let work = async { tokio::time::timeout(limit, program(self.channel.clone(), objects)).await };
        self.runtime.block_on(work).with_context(|| {
            format!("the daemon has not programmed everything within {} s", limit.as_secs())
        })?
    }

    /// Declares one object, and reads the number of sessions again and again
    /// until there are `all`.
    pub fn sessions_while_programming(
        &self,
        object: Object,
        all: u64,
        limit: Duration,
    ) -> Result<Vec<Reading>> {
        let programming = program(self.channel.clone(), vec![object]);
        let reading = async {
            let mut readings: Vec<Reading> = Vec::new();
            while readings.last().is_none_or(|last| last.sessions < all) {
                let stats = stats(&self.channel).await?;
                let sessions = stats.workers.iter().map(|worker| worker.sessions).sum();
                readings.push(Reading { nanoseconds: stats.uptime_nanoseconds, sessions });
            }
            Ok(readings)
        };
        let both = async { tokio::try_join!(programming, reading) };
        let work = async { tokio::time::timeout(limit, both).await };
        let ((), readings) = self.runtime.block_on(work).context("not all sessions were made in time")??;
        Ok(readings)
    }

    /// The counters of all workers together.
    pub fn totals(&self) -> Result<Totals> {
        let stats = self.ask(stats(&self.channel))?;
        let balance = stats.balance.context("the daemon's counters have no balance")?;
        Ok(Totals { received: balance.received, transmitted: balance.transmitted, dropped: balance.dropped })
    }

    /// Dropped packets by reason, in words.
    pub fn drops(&self) -> Result<Vec<String>> {
        let mut client = OperationsClient::new(self.channel.clone());
        let request = GetDropsRequest::default();
        let reply = self.ask(async { Ok(client.get_drops(request).await?.into_inner()) })?;
        Ok(reply.drops.iter().map(|drop| format!("{} {}", drop.packets, drop.reason)).collect())
    }

    fn ask<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, question).await });
        answer.with_context(|| format!("the daemon did not answer within {} s", ANSWER_LIMIT.as_secs()))?
    }
}

async fn stats(channel: &Channel) -> Result<GetStatsReply> {
    let mut client = OperationsClient::new(channel.clone()).max_decoding_message_size(MAX_REPLY);
    Ok(client.get_stats(GetStatsRequest {}).await?.into_inner())
}

async fn program(channel: Channel, objects: Vec<Object>) -> Result<()> {
    let all = objects.len();
    let mut waiting = objects
        .into_iter()
        .zip(1..)
        .map(|(object, id)| ProgramRequest { id, operation: Some(Operation::Apply(object)) });
    // Never full: at most a window's worth of requests is unanswered.
    let (requests, outgoing) = mpsc::channel(WINDOW);
    for request in waiting.by_ref().take(WINDOW) {
        requests.try_send(request).context("the stream of requests is closed")?;
    }
    let mut client = ControlClient::new(channel);
    let mut replies = client.program(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut programmed = 0;
    while programmed < all {
        let reply = replies.message().await?.context("the daemon closed the stream")?;
        match reply.outcome {
            Some(Outcome::Accepted(_)) => {}
            Some(Outcome::Programmed(_)) => {
                programmed += 1;
                if let Some(request) = waiting.next() {
                    requests.try_send(request).context("the stream of requests is closed")?;
                }
            }
            Some(Outcome::Refused(refused)) => {
                bail!("the daemon refused operation {}: {} {}", reply.id, refused.field, refused.message)
            }
            None => bail!("the daemon answered operation {} in a way that the rig does not know", reply.id),
        }
    }
    Ok(())
}
