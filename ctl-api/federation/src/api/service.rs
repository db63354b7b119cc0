//! The intent service, over any store.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tieline_gate::Peer;
use tieline_proto::federation::v1;
use tieline_proto::federation::v1::intent_server::{Intent as IntentApi, IntentServer};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tracing::info;

use super::{Parts, Wrong, difference_message, object_message, problem_messages, request};
use crate::allocation::{Circumstances, PoolId};
use crate::desired::desired;
use crate::intent::ObjectKey;
use crate::intent::kinds::Kind;
use crate::intent::names::Name;
use crate::intent::rules::Author;
use crate::store::state::{self, ApplyError, State};
use crate::store::{Entries, Revision, Snapshot, Store, Term, Update, Watch};

/// Objects in a reply that does not say.
const PAGE: u32 = 1000;
/// Most objects in a reply.
const MAX_PAGE: u32 = 10_000;
/// Largest request in bytes: a whole intent as files.
pub(super) const MAX_REQUEST: usize = 65 << 20;
/// Replies that wait for a watcher.
const WATCH_QUEUE: usize = 16;

/// The intent service of one listener.
#[derive(Clone)]
pub struct IntentService {
    store: Arc<dyn Store>,
    /// In whose name this listener speaks.
    author: Author,
    /// The term of this controller, if it leads; none at all without election.
    term: Option<watch::Receiver<Option<Term>>>,
    /// Numbers that others still have.
    referenced: Arc<dyn Fn() -> BTreeSet<(PoolId, u32)> + Send + Sync>,
}

impl std::fmt::Debug for IntentService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntentService").field("author", &self.author).finish_non_exhaustive()
    }
}

impl IntentService {
    /// A service that anybody's changes go through.
    pub fn new(store: Arc<dyn Store>, author: Author) -> Self {
        Self { store, author, term: None, referenced: Arc::new(BTreeSet::new) }
    }

    /// A service that takes changes only while this controller leads.
    pub fn with_term(self, term: watch::Receiver<Option<Term>>) -> Self {
        Self { term: Some(term), ..self }
    }

    /// A service that gives out no number that this function names: those that
    /// gateways and peers still have.
    pub fn with_referenced(
        self,
        referenced: impl Fn() -> BTreeSet<(PoolId, u32)> + Send + Sync + 'static,
    ) -> Self {
        Self { referenced: Arc::new(referenced), ..self }
    }

    /// For a listener, with the limits of its messages.
    pub fn into_server(self) -> IntentServer<Self> {
        IntentServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }

    fn circumstances(&self) -> Circumstances {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Circumstances { now, referenced: (self.referenced)() }
    }

    /// The term to write in.
    fn term(&self) -> Result<Option<Term>, Status> {
        match &self.term {
            None => Ok(None),
            Some(term) => match *term.borrow() {
                Some(term) => Ok(Some(term)),
                None => Err(Status::failed_precondition(
                    "this controller does not lead: ask the one that does, or wait for an election",
                )),
            },
        }
    }

    fn request(&self, parts: &Parts<'_>) -> Result<Result<state::Request, Vec<v1::Problem>>, Status> {
        match request(parts, &self.author) {
            Ok(request) => Ok(Ok(request)),
            Err(Wrong::Files(problems)) => Ok(Err(problem_messages(&problems))),
            Err(Wrong::Request(reason)) => Err(Status::invalid_argument(reason)),
        }
    }

    async fn state(&self) -> Result<State, Status> {
        Ok(state::read(self.store.as_ref()).await?)
    }
}

#[tonic::async_trait]
impl IntentApi for IntentService {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyReply>, Status> {
        // Nobody is named where the store is opened by who asks.
        let by = request.extensions().get::<Arc<Peer<()>>>().cloned();
        let message = request.into_inner();
        let v1::ApplyRequest { files, remove, prune, site } = &message;
        let term = self.term()?;
        let request = match self.request(&Parts { files, remove, prune: *prune, site })? {
            Ok(request) => request,
            Err(problems) => return Ok(Response::new(v1::ApplyReply { problems, ..Default::default() })),
        };
        let reply = match state::apply(self.store.as_ref(), &request, &self.circumstances(), term).await {
            Ok((revision, plan)) => {
                if let Some(by) = by {
                    let changes = plan.difference.objects.len();
                    info!(%by, revision = revision.0, changes, "the intent was changed");
                }
                v1::ApplyReply {
                    revision: revision.0,
                    difference: Some(difference_message(&plan.difference)),
                    problems: Vec::new(),
                }
            }
            Err(ApplyError::Refused(problems)) => {
                v1::ApplyReply { problems: problem_messages(&problems), ..Default::default() }
            }
            Err(ApplyError::Store(error)) => return Err(error.into()),
        };
        Ok(Response::new(reply))
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Result<Response<v1::DiffReply>, Status> {
        let message = request.into_inner();
        let v1::DiffRequest { files, remove, prune, site } = &message;
        let request = match self.request(&Parts { files, remove, prune: *prune, site })? {
            Ok(request) => request,
            Err(problems) => return Ok(Response::new(v1::DiffReply { problems, ..Default::default() })),
        };
        let reply = match state::plan(&self.state().await?, &request, &self.circumstances()) {
            Ok(plan) => {
                v1::DiffReply { difference: Some(difference_message(&plan.difference)), problems: Vec::new() }
            }
            Err(problems) => v1::DiffReply { problems: problem_messages(&problems), ..Default::default() },
        };
        Ok(Response::new(reply))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let key = ObjectKey::parse(&request.into_inner().key).map_err(Status::invalid_argument)?;
        let state = self.state().await?;
        let object =
            state.intent.object(&key).ok_or_else(|| Status::not_found(format!("there is no {key}")))?;
        Ok(Response::new(v1::GetReply {
            object: Some(object_message(&key, object)),
            revision: state.revision.0,
            stale: state.stale.clone().unwrap_or_default(),
        }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let message = request.into_inner();
        let wrong = |field: &str, error: String| Status::invalid_argument(format!("{field}: {error}"));
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let kind = optional(&message.kind).map(|text| text.parse::<Kind>()).transpose();
        let kind = kind.map_err(|error| wrong("kind", error))?;
        let namespace = optional(&message.namespace).map(|text| text.parse::<Name>()).transpose();
        let namespace = namespace.map_err(|error| wrong("namespace", error))?;
        let after = optional(&message.page_token).map(|text| ObjectKey::parse(&text)).transpose();
        let after = after.map_err(|error| wrong("page_token", error))?;
        let size = if message.page_size == 0 { PAGE } else { message.page_size.min(MAX_PAGE) } as usize;
        let state = self.state().await?;
        let mut page: Vec<_> = state
            .intent
            .objects()
            .filter(|(key, _)| kind.is_none_or(|kind| key.kind == kind))
            .filter(|(key, _)| namespace.is_none() || key.namespace == namespace)
            .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
            .take(size + 1)
            .collect();
        let more = page.len() > size;
        page.truncate(size);
        let next = page.last().filter(|_| more).map(|(key, _)| key.to_string());
        Ok(Response::new(v1::ListReply {
            objects: page.into_iter().map(|(key, object)| object_message(key, object)).collect(),
            next_page_token: next.unwrap_or_default(),
            revision: state.revision.0,
            stale: state.stale.clone().unwrap_or_default(),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchReply, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let after = Revision(request.into_inner().after_revision);
        let watch = self.store.watch(after).await?;
        let (sender, replies) = mpsc::channel(WATCH_QUEUE);
        tokio::spawn(tell(watch, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies).map(|reply| reply))))
    }

    async fn get_desired(
        &self,
        request: Request<v1::GetDesiredRequest>,
    ) -> Result<Response<v1::GetDesiredReply>, Status> {
        let wanted = request.into_inner().gateway;
        let state = self.state().await?;
        let mut gateways = desired(&state.intent, &state.allocations)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        if !wanted.is_empty() {
            gateways.retain(|name, _| name.as_str() == wanted);
            if gateways.is_empty() {
                return Err(Status::not_found(format!("no cluster has a gateway {wanted}")));
            }
        }
        let json = serde_json::to_string(&gateways).map_err(|error| Status::internal(error.to_string()))?;
        let stale = state.stale.unwrap_or_default();
        Ok(Response::new(v1::GetDesiredReply { json, revision: state.revision.0, stale }))
    }
}

/// Tells a watcher what comes, until one of the two is gone.
async fn tell(mut watch: Watch, sender: mpsc::Sender<Result<v1::WatchReply, Status>>) {
    loop {
        let update = tokio::select! {
            () = sender.closed() => return,
            update = watch.next() => update,
        };
        let Some(update) = update else {
            let ended = Status::unavailable("the store was closed: watch again");
            let _ = sender.send(Err(ended)).await;
            return;
        };
        let replies = match replies(update) {
            Ok(replies) => replies,
            Err(status) => {
                let _ = sender.send(Err(status)).await;
                return;
            }
        };
        for reply in replies {
            if sender.send(Ok(reply)).await.is_err() {
                return;
            }
        }
    }
}

/// The replies that an update makes: none when it is about allocations alone.
fn replies(update: Update) -> Result<Vec<v1::WatchReply>, Status> {
    let (revision, puts, deletes, relisted) = match update {
        Update::Changed { revision, puts, deletes } => (revision, puts, deletes, false),
        Update::Relisted(snapshot) => (snapshot.revision, snapshot.entries, BTreeSet::new(), true),
    };
    let objects = objects_of(puts)?;
    let removed: Vec<String> =
        deletes.iter().filter_map(|key| key.strip_prefix("object/")).map(str::to_owned).collect();
    let mut parts: Vec<Vec<v1::Object>> = objects.chunks(PAGE as usize).map(<[_]>::to_vec).collect();
    if parts.is_empty() && (relisted || !removed.is_empty()) {
        parts.push(Vec::new());
    }
    let last = parts.len().saturating_sub(1);
    let reply = |(index, objects): (usize, Vec<v1::Object>)| v1::WatchReply {
        revision: revision.0,
        objects,
        removed: if index == 0 { removed.clone() } else { Vec::new() },
        relisted: relisted && index == 0,
        more: index < last,
    };
    Ok(parts.into_iter().enumerate().map(reply).collect())
}

fn objects_of(entries: Entries) -> Result<Vec<v1::Object>, Status> {
    let state = State::from_snapshot(&Snapshot { entries, ..Snapshot::default() })?;
    Ok(state.intent.objects().map(|(key, object)| object_message(key, object)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::Allocations;
    use crate::intent::testing::intent;
    use crate::store::state::entries_of;

    #[test]
    fn all_objects_come_in_parts_and_changes_of_numbers_alone_are_not_told() {
        let cluster = |n| {
            format!(
                "---\napiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {{name: c{n}}}\nspec: {{asn: {}}}\n",
                n + 1
            )
        };
        let intent = intent(&(0..2500).map(cluster).collect::<String>());
        let entries = entries_of(&intent, &Allocations::default());
        let snapshot = Snapshot { revision: Revision(7), entries, stale: None };
        let parts = replies(Update::Relisted(snapshot)).expect("readable");
        let shapes: Vec<_> =
            parts.iter().map(|part| (part.objects.len(), part.relisted, part.more)).collect();
        assert_eq!(shapes, [(1000, true, true), (1000, false, true), (500, false, false)]);
        assert!(parts.iter().all(|part| part.revision == 7));

        let changed = |puts: &[(&str, &str)], deletes: &[&str]| {
            let puts = puts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let deletes = deletes.iter().map(|key| (*key).to_owned()).collect();
            replies(Update::Changed { revision: Revision(8), puts, deletes }).expect("readable")
        };
        assert_eq!(changed(&[("held/64512/vni/a", "7")], &["held/64512/vni/b"]), []);
        let gone = changed(&[], &["object/Cluster/c1", "held/64512/vni/b"]);
        assert_eq!((gone.len(), gone[0].removed.as_slice()), (1, ["Cluster/c1".to_owned()].as_slice()));
        let none = replies(Update::Relisted(Snapshot::default())).expect("readable");
        assert!(none.len() == 1 && none[0].relisted, "that there is nothing is told too");
    }
}
