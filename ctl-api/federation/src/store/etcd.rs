//! A store in etcd, for several controllers.
//!
//! | key under the prefix | what |
//! |---|---|
//! | `head` | written by every commit: its revision is the store's |
//! | `bucket/NN` | entries, see `buckets` |
//! | `leader/...` | candidates, by etcd's election |
//!
//! A commit is one transaction: if nobody has written `head` since, and the
//! term's key is still there, the buckets that change are written.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, GetResponse, KvClient, TlsOptions, Txn,
    TxnOp, TxnOpResponse,
};
use tracing::warn;

use super::seal::{self, Seal};
use super::{Change, Entries, Leadership, Revision, Snapshot, Store, StoreError, Term, Watch, buckets};

mod election;
mod watching;

/// How long etcd has to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Largest transaction in bytes: etcd takes 1.5 MiB by default, keys and all. A
/// bucket is written whole, so that this bounds the state for changes that touch
/// every bucket.
const MAX_COMMIT: usize = 1_400_000;
/// Largest answer: all buckets.
const MAX_ANSWER: usize = 256 << 20;

/// Where etcd is, and what of it is ours.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// Its members, as `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// What all keys begin with; two federations in one etcd have two.
    pub prefix: String,
    /// User and password, if it asks for them.
    pub user: Option<(String, String)>,
    /// TLS, with https.
    pub tls: Option<TlsOptions>,
    /// How long a leader that is cut off keeps its office.
    pub lease: Duration,
    /// Seals passwords; all who use the store have the same one. Without it no new
    /// ones are taken.
    pub seal: Option<Arc<Seal>>,
}

impl EtcdOptions {
    /// Members without passwords and TLS, and the usual prefix and lease.
    pub fn new(endpoints: Vec<String>) -> Self {
        let prefix = "tieline/federation".to_owned();
        Self { endpoints, prefix, user: None, tls: None, lease: Duration::from_secs(3), seal: None }
    }
}

/// A store in etcd.
#[derive(Clone)]
pub struct EtcdStore {
    client: Client,
    prefix: String,
    lease: Duration,
    seal: Option<Arc<Seal>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What was read or written last.
    known: Mutex<Option<Snapshot>>,
    /// Keys of the terms that this process has won.
    offices: Mutex<BTreeMap<Term, Vec<u8>>>,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What asking came to.
enum Failure {
    /// etcd said no.
    Refused(Error),
    /// It did not say anything in time.
    Silent,
}

impl Failure {
    fn reason(self, what: &str) -> String {
        match self {
            Self::Refused(Error::GRpcStatus(status)) => format!("etcd: {what}: {}", status.message()),
            Self::Refused(error) => format!("etcd: {what}: {error}"),
            Self::Silent => format!(
                "etcd: {what}: no answer within {} s; fewer than half of its members may be up",
                ANSWER.as_secs()
            ),
        }
    }
}

async fn asked<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::Refused(error)),
        Err(_) => Err(Failure::Silent),
    }
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

impl EtcdStore {
    /// Connects.
    ///
    /// # Errors
    /// No member can be reached.
    pub async fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(ANSWER)
            .with_keep_alive(Duration::from_secs(2), Duration::from_secs(2))
            .with_keep_alive_while_idle(true);
        if let Some((name, password)) = &options.user {
            connect = connect.with_user(name, password);
        }
        if let Some(tls) = options.tls {
            connect = connect.with_tls(tls);
        }
        let client = asked(Client::connect(&options.endpoints, Some(connect))).await.map_err(|failure| {
            let what = format!("connect to {}", options.endpoints.join(", "));
            StoreError::Unavailable { reason: failure.reason(&what) }
        })?;
        let (prefix, lease, seal) = (options.prefix, options.lease, options.seal);
        let store = Self { client, prefix, lease, seal, shared: Arc::default() };
        store.seal_clear_passwords().await;
        Ok(store)
    }

    /// Seals passwords that an earlier program has written.
    async fn seal_clear_passwords(&self) {
        let as_stored = Self { seal: None, shared: Arc::default(), ..self.clone() };
        let Ok(Ok(found)) = as_stored.fetch(GetOptions::new()).await else { return };
        let mut clear = found.entries;
        clear.retain(|key, text| seal::is_clear(key, text));
        if clear.is_empty() {
            return;
        }
        if self.seal.is_none() {
            warn!(
                "passwords of {} peers stand in etcd as they are: give every controller the same --seal-key FILE, or use \
                 passwordFile",
                clear.len()
            );
            return;
        }
        let change = Change { base: found.revision, puts: clear, ..Change::default() };
        match self.commit(change).await {
            Ok(_) => warn!(
                "passwords of peers stood in etcd as they are: they are sealed now. Its history has them until it is \
                 compacted and defragmented, and copies of it keep them"
            ),
            Err(error) => warn!("passwords of peers are not sealed yet: {error}"),
        }
    }

    fn decode(&self, bucket: &[u8]) -> Result<Entries, String> {
        let entries = buckets::decode(bucket)?;
        Ok(match &self.seal {
            Some(seal) => seal.open(entries),
            None => entries,
        })
    }

    fn encode(&self, entries: &Entries) -> Result<Vec<u8>, StoreError> {
        let encoded = match &self.seal {
            Some(seal) => buckets::encode(&seal.seal(entries)?),
            None => buckets::encode(entries),
        };
        encoded.map_err(|reason| StoreError::Damaged { reason })
    }

    fn key(&self, rest: &str) -> String {
        format!("{}/{rest}", self.prefix)
    }

    fn bucket_key(&self, bucket: u64) -> String {
        self.key(&format!("bucket/{bucket:02}"))
    }

    fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_ANSWER)
    }

    /// Everything under the prefix that makes the state, at one revision.
    async fn fetch(&self, options: GetOptions) -> Result<Result<Snapshot, StoreError>, Failure> {
        let answer = asked(self.kv().get(self.key(""), Some(options.with_prefix()))).await?;
        Ok(self.snapshot_of(&answer))
    }

    fn snapshot_of(&self, answer: &GetResponse) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        for pair in answer.kvs() {
            let key = String::from_utf8_lossy(pair.key());
            let Some(rest) = key.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            if rest == "head" {
                snapshot.revision = Revision(unsigned(pair.mod_revision()));
            } else if rest.starts_with("bucket/") {
                let damaged = |reason| StoreError::Damaged { reason: format!("etcd key {key}: {reason}") };
                snapshot.entries.extend(self.decode(pair.value()).map_err(damaged)?);
            }
        }
        Ok(snapshot)
    }

    fn remember(&self, snapshot: &Snapshot) {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.revision <= snapshot.revision) {
            *known = Some(snapshot.clone());
        }
    }

    fn known(&self) -> Option<Snapshot> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state at the revision that a change was made from.
    async fn base_of(&self, change: &Change) -> Result<Snapshot, StoreError> {
        if let Some(known) = self.known().filter(|known| known.revision == change.base) {
            return Ok(known);
        }
        let read = self.fetch(GetOptions::new()).await;
        let now = read.map_err(|failure| StoreError::Unavailable { reason: failure.reason("read") })??;
        self.remember(&now);
        if now.revision == change.base {
            Ok(now)
        } else {
            Err(StoreError::Conflict { base: change.base, found: now.revision })
        }
    }

    /// The key whose existence is a term.
    fn office(&self, term: Term) -> Option<Vec<u8>> {
        self.shared.offices.lock().unwrap_or_else(PoisonError::into_inner).get(&term).cloned()
    }

    /// Writes the buckets that a change touches.
    fn operations(&self, change: &Change, after: &Entries) -> Result<Vec<TxnOp>, StoreError> {
        let touched: BTreeSet<u64> =
            change.puts.keys().chain(&change.deletes).map(|key| buckets::of(key)).collect();
        let split = buckets::split(after);
        let none = Entries::new();
        let mut operations = vec![TxnOp::put(self.key("head"), "", None)];
        let mut bytes = 0;
        for bucket in touched {
            let entries = split.get(&bucket).unwrap_or(&none);
            if entries.is_empty() {
                operations.push(TxnOp::delete(self.bucket_key(bucket), None));
                continue;
            }
            let value = self.encode(entries)?;
            bytes += value.len();
            operations.push(TxnOp::put(self.bucket_key(bucket), value, None));
        }
        if bytes > MAX_COMMIT {
            return Err(StoreError::TooLarge { bytes, most: MAX_COMMIT });
        }
        Ok(operations)
    }

    /// Whether it was the term that a transaction failed for, or the revision.
    fn refusal(&self, change: &Change, answers: &[TxnOpResponse]) -> StoreError {
        let revision = |answer: Option<&TxnOpResponse>| match answer {
            Some(TxnOpResponse::Get(get)) => {
                get.kvs().first().map(|pair| (pair.mod_revision(), pair.create_revision()))
            }
            _ => None,
        };
        if let Some(term) = change.term
            && revision(answers.get(1)).map(|(_, created)| unsigned(created)) != Some(term.0)
        {
            return StoreError::Fenced { term };
        }
        let found = revision(answers.first()).map_or(0, |(changed, _)| unsigned(changed));
        StoreError::Conflict { base: change.base, found: Revision(found) }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn read(&self) -> Result<Snapshot, StoreError> {
        let failure = match self.fetch(GetOptions::new()).await {
            Ok(snapshot) => {
                let snapshot = snapshot?;
                self.remember(&snapshot);
                return Ok(snapshot);
            }
            Err(failure) => failure.reason("read"),
        };
        // What one member knows, without asking the others.
        let member = self.fetch(GetOptions::new().with_serializable()).await;
        let snapshots = [member.ok().and_then(Result::ok), self.known()];
        let newest = snapshots.into_iter().flatten().max_by_key(|snapshot| snapshot.revision);
        match newest {
            Some(snapshot) => Ok(Snapshot { stale: Some(failure), ..snapshot }),
            None => Err(StoreError::Unavailable { reason: failure }),
        }
    }

    async fn commit(&self, change: Change) -> Result<Revision, StoreError> {
        if self.seal.is_none()
            && let Some((key, _)) = change.puts.iter().find(|(key, text)| seal::is_clear(key, text))
        {
            return Err(StoreError::Exposed {
                reason: format!(
                    "{} has a password, which would stand in etcd as it is: give every controller the same \
                     --seal-key FILE, or write passwordFile",
                    key.trim_start_matches("object/")
                ),
            });
        }
        let base = self.base_of(&change).await?;
        let office = match change.term {
            Some(term) => Some((term, self.office(term).ok_or(StoreError::Fenced { term })?)),
            None => None,
        };
        let mut entries = base.entries;
        entries.retain(|key, _| !change.deletes.contains(key));
        entries.extend(change.puts.clone());
        let head = self.key("head");
        let mut conditions =
            vec![Compare::mod_revision(head.as_str(), CompareOp::Equal, signed(change.base.0))];
        let mut otherwise = vec![TxnOp::get(head.as_str(), None)];
        if let Some((term, key)) = office {
            conditions.push(Compare::create_revision(key.as_slice(), CompareOp::Equal, signed(term.0)));
            otherwise.push(TxnOp::get(key, None));
        }
        let operations = if change.is_empty() { Vec::new() } else { self.operations(&change, &entries)? };
        let txn = Txn::new().when(conditions).and_then(operations).or_else(otherwise);
        let answer = asked(self.kv().txn(txn)).await.map_err(|failure| match failure {
            // It may be carried out all the same once there is a quorum again.
            Failure::Silent => StoreError::Unknown { reason: Failure::Silent.reason("write") },
            refused => StoreError::Unavailable { reason: refused.reason("write") },
        })?;
        if !answer.succeeded() {
            return Err(self.refusal(&change, &answer.op_responses()));
        }
        if change.is_empty() {
            return Ok(change.base);
        }
        let revision = Revision(answer.header().map_or(0, |header| unsigned(header.revision())));
        self.remember(&Snapshot { revision, entries, stale: None });
        Ok(revision)
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        watching::watch(self.clone(), after).await
    }

    async fn campaign(&self, candidate: &str) -> Result<Leadership, StoreError> {
        election::campaign(self.clone(), candidate).await
    }
}
