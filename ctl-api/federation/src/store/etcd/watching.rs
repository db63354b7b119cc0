//! Changes of etcd, as changes of entries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use etcd_client::{EventType, GetOptions, WatchOptions, WatchResponse};
use tieline_process::essential;
use tokio::sync::mpsc;

use super::{EtcdStore, asked, signed, unsigned};
use crate::store::{Entries, Revision, Snapshot, Store, StoreError, Update, WATCH_QUEUE, Watch, buckets};

/// How long to wait before a stream that broke is opened again.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a stream ended.
enum End {
    /// The watcher has gone.
    Unwatched,
    /// It broke: it can be opened again where it was.
    Broken,
    /// What it would tell is not there any more.
    Compacted,
}

/// What a watcher has been told so far.
struct Position {
    revision: Revision,
    buckets: BTreeMap<u64, Entries>,
}

impl Position {
    fn of(snapshot: &Snapshot) -> Self {
        Self { revision: snapshot.revision, buckets: buckets::split(&snapshot.entries) }
    }
}

pub(super) async fn watch(store: EtcdStore, after: Revision) -> Result<Watch, StoreError> {
    let (sender, updates) = mpsc::channel(WATCH_QUEUE);
    // What was there at that revision; if that is not known any more, what is
    // there now is told whole.
    let then = if after == Revision(0) {
        Some(Snapshot::default())
    } else {
        let options = GetOptions::new().with_revision(signed(after.0));
        let found = store.fetch(options).await.ok().transpose()?;
        found.filter(|snapshot| snapshot.revision == after)
    };
    let position = match then {
        Some(snapshot) => Position::of(&snapshot),
        None => relist(&store, &sender).await?,
    };
    tokio::spawn(essential::task(follow(store, position, sender)));
    Ok(Watch { updates })
}

/// Tells everything that is there.
async fn relist(store: &EtcdStore, sender: &mpsc::Sender<Update>) -> Result<Position, StoreError> {
    let snapshot = store.read().await?;
    let position = Position::of(&snapshot);
    // The receiver may be gone: then the next update finds that out.
    let _ = sender.send(Update::Relisted(snapshot)).await;
    Ok(position)
}

async fn follow(store: EtcdStore, mut position: Position, sender: mpsc::Sender<Update>) {
    loop {
        match stream(&store, &mut position, &sender).await {
            End::Unwatched => return,
            End::Broken => tokio::time::sleep(AGAIN).await,
            End::Compacted => match relist(&store, &sender).await {
                Ok(now) => position = now,
                Err(_) => tokio::time::sleep(AGAIN).await,
            },
        }
        if sender.is_closed() {
            return;
        }
    }
}

async fn stream(store: &EtcdStore, position: &mut Position, sender: &mpsc::Sender<Update>) -> End {
    let options =
        WatchOptions::new().with_prefix().with_start_revision(signed(position.revision.0.saturating_add(1)));
    let mut client = store.client.watch_client().max_decoding_message_size(super::MAX_ANSWER);
    let Ok(mut stream) = asked(client.watch(store.key(""), Some(options))).await else { return End::Broken };
    loop {
        let answer = tokio::select! {
            () = sender.closed() => return End::Unwatched,
            answer = stream.message() => answer,
        };
        let Ok(Some(answer)) = answer else { return End::Broken };
        if answer.compact_revision() > 0 {
            return End::Compacted;
        }
        if answer.canceled() {
            return End::Broken;
        }
        for (revision, touched) in commits(store, &answer) {
            let Ok(touched) = touched else { return End::Compacted };
            let (puts, deletes) = position.take(revision, touched);
            let update = Update::Changed { revision, puts, deletes };
            if sender.send(update).await.is_err() {
                return End::Unwatched;
            }
        }
    }
}

type Touched = Result<BTreeMap<u64, Entries>, String>;

/// The buckets that each commit in an answer has written. What is no commit,
/// such as an election, does not touch `head` and is left out.
fn commits(store: &EtcdStore, answer: &WatchResponse) -> BTreeMap<Revision, Touched> {
    let mut touched: BTreeMap<Revision, Touched> = BTreeMap::new();
    let mut heads = BTreeSet::new();
    for event in answer.events() {
        let Some(pair) = event.kv() else { continue };
        let revision = Revision(unsigned(pair.mod_revision()));
        let key = String::from_utf8_lossy(pair.key());
        let Some(rest) = key.strip_prefix(&store.prefix).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        if rest == "head" {
            heads.insert(revision);
            touched.entry(revision).or_insert_with(|| Ok(BTreeMap::new()));
        } else if let Some(Ok(bucket)) = rest.strip_prefix("bucket/").map(str::parse) {
            let entries = match event.event_type() {
                EventType::Delete => Ok(Entries::new()),
                EventType::Put => store.decode(pair.value()),
            };
            let commit = touched.entry(revision).or_insert_with(|| Ok(BTreeMap::new()));
            match (commit.as_mut(), entries) {
                (Ok(buckets), Ok(entries)) => {
                    buckets.insert(bucket, entries);
                }
                (Ok(_), Err(reason)) => *commit = Err(reason),
                (Err(_), _) => {}
            }
        }
    }
    touched.retain(|revision, _| heads.contains(revision));
    touched
}

impl Position {
    /// Moves on to a revision: what is new or different, and what is gone.
    fn take(&mut self, revision: Revision, touched: BTreeMap<u64, Entries>) -> (Entries, BTreeSet<String>) {
        let mut puts = Entries::new();
        let mut deletes = BTreeSet::new();
        for (bucket, new) in touched {
            let old = self.buckets.remove(&bucket).unwrap_or_default();
            deletes.extend(old.keys().filter(|key| !new.contains_key(*key)).cloned());
            let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
            puts.extend(changed.map(|(key, value)| (key.clone(), value.clone())));
            self.buckets.insert(bucket, new);
        }
        self.revision = revision;
        (puts, deletes)
    }
}
