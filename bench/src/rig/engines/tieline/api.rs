//! A client of Tieline's API, as a controller would be, but waiting.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tieline_bench::session::Session;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::operations_client::OperationsClient;
use tieline_proto::v1::{GetDropsRequest, GetStatsReply, GetStatsRequest, Object};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::Reading;

/// Objects of a batch.
const TOGETHER: usize = 500;
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
    let mut session = Session::lasting(channel, "rig").await?;
    let mut objects = objects.into_iter().map(Operation::Apply).peekable();
    let batches = std::iter::from_fn(|| {
        objects.peek()?;
        Some(objects.by_ref().take(TOGETHER).collect())
    });
    session.program(batches).await
}
