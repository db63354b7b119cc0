//! What the entries mean: intent and allocations, and how an intent is applied.
//!
//! | key | text |
//! |---|---|
//! | `object/KIND/NAMESPACE/NAME` | the object's document, as JSON |
//! | `held/ASN/RESOURCE/HOLDER` | a number |
//! | `released/ASN/RESOURCE/NUMBER` | who had it, and until when |

use super::{Change, Entries, Revision, Snapshot, Store, StoreError, Term};
use crate::allocation::{Allocations, Circumstances, Holder, PoolId, Released, allocate};
use crate::intent::diff::Difference;
use crate::intent::problem::Problem;
use crate::intent::read::{Documents, from_document};
use crate::intent::rules::{self, Author};
use crate::intent::{Intent, ObjectKey};
use crate::numbers::Asn;

/// How often a change that lost a race is tried again.
const TRIES: usize = 5;

/// Intent and allocations at a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The revision.
    pub revision: Revision,
    /// What is wanted.
    pub intent: Intent,
    /// What is allocated for it.
    pub allocations: Allocations,
    /// Why this may not be the newest revision.
    pub stale: Option<String>,
}

impl State {
    /// Reads what a snapshot means.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self, StoreError> {
        let mut state =
            Self { revision: snapshot.revision, stale: snapshot.stale.clone(), ..Self::default() };
        for (key, text) in &snapshot.entries {
            state
                .take(key, text)
                .map_err(|reason| StoreError::Damaged { reason: format!("entry {key}: {reason}") })?;
        }
        Ok(state)
    }

    fn take(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key.split_once('/') {
            Some(("object", _)) => {
                let document = serde_json::from_str(text).map_err(|error| error.to_string())?;
                let (key, object) = from_document(document)?;
                self.intent.insert(key, object);
            }
            Some(("held", rest)) => {
                let (pool, holder) = pool_of(rest)?;
                let number = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
                self.allocations
                    .pools
                    .entry(pool)
                    .or_default()
                    .held
                    .insert(Holder::from_text(holder), number);
            }
            Some(("released", rest)) => {
                let (pool, number) = pool_of(rest)?;
                let number = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
                let released: Released = serde_json::from_str(text).map_err(|error| error.to_string())?;
                self.allocations.pools.entry(pool).or_default().released.insert(number, released);
            }
            // Of a newer program: it is kept by who does not touch it.
            _ => {}
        }
        Ok(())
    }
}

fn pool_of(rest: &str) -> Result<(PoolId, &str), String> {
    let mut parts = rest.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(asn), Some(resource), Some(last)) => {
            let asn: u32 = asn.parse().map_err(|_| format!("{asn:?} is not an AS number"))?;
            Ok((PoolId { asn: Asn::try_from(asn)?, resource: resource.parse()? }, last))
        }
        _ => Err("it is not ASN/RESOURCE/...".to_owned()),
    }
}

/// The entries that say what intent and allocations say.
pub fn entries_of(intent: &Intent, allocations: &Allocations) -> Entries {
    let objects = intent.objects().map(|(key, object)| {
        // Nothing in a key but names, and no slash in a name.
        (format!("object/{key}"), object.to_document(key).to_string())
    });
    let mut entries: Entries = objects.collect();
    for (id, pool) in &allocations.pools {
        let under =
            |what: &str, last: &dyn std::fmt::Display| format!("{what}/{}/{}/{last}", id.asn, id.resource);
        entries.extend(pool.held.iter().map(|(holder, number)| (under("held", holder), number.to_string())));
        entries.extend(pool.released.iter().map(|(number, released)| {
            let text = serde_json::json!({"holder": released.holder, "at": released.at});
            (under("released", number), text.to_string())
        }));
    }
    entries
}

/// What is to be done with an intent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Objects to declare.
    pub documents: Documents,
    /// Objects to remove.
    pub remove: Vec<ObjectKey>,
    /// Remove every object that is not declared here; of a site, only endpoints
    /// at its gateways.
    pub prune: bool,
    /// In whose name.
    pub author: Author,
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How the intent changes.
    pub difference: Difference,
    /// The intent that it would be.
    pub intent: Intent,
    /// The allocations for it.
    pub allocations: Allocations,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The intent would break rules. Nothing was changed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Problem>),
    /// The store does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a request would make of a state.
///
/// # Errors
/// All rules that would be broken.
pub fn plan(state: &State, request: &Request, circumstances: &Circumstances) -> Result<Plan, Vec<Problem>> {
    let mut intent = state.intent.clone();
    for key in &request.remove {
        intent.remove(key);
    }
    if request.prune {
        let mine = |key: &ObjectKey| {
            rules::check_author(&request.author, &state.intent, &state.intent, [key]).is_empty()
        };
        let gone: Vec<ObjectKey> = state
            .intent
            .objects()
            .map(|(key, _)| key)
            .filter(|key| !request.documents.contains(key) && mine(key))
            .cloned()
            .collect();
        gone.iter().for_each(|key| {
            intent.remove(key);
        });
    }
    for (key, object) in request.documents.objects() {
        intent.insert(key.clone(), object.clone());
    }
    let difference = Difference::between(&state.intent, &intent);
    let touched = difference.objects.iter().map(|object| &object.object);
    let mut problems = rules::check_author(&request.author, &state.intent, &intent, touched);
    problems.extend(rules::check(&intent));
    if problems.is_empty() {
        match allocate(&state.allocations, &intent, circumstances) {
            Ok(allocations) => return Ok(Plan { difference, intent, allocations }),
            Err(exhausted) => problems = exhausted,
        }
    }
    request.documents.place(&mut problems);
    Err(problems)
}

/// The state of a store.
///
/// # Errors
/// It cannot be read.
pub async fn read(store: &dyn Store) -> Result<State, StoreError> {
    State::from_snapshot(&store.read().await?)
}

/// Carries a request out, all of it or nothing: objects and the numbers that
/// they need are written together. Who loses a race looks again at what is
/// there and tries again.
///
/// # Errors
/// See [`ApplyError`].
pub async fn apply(
    store: &dyn Store,
    request: &Request,
    circumstances: &Circumstances,
    term: Option<Term>,
) -> Result<(Revision, Plan), ApplyError> {
    let mut tries = 0;
    loop {
        let snapshot = store.read().await?;
        if let Some(reason) = snapshot.stale {
            return Err(StoreError::Unavailable { reason }.into());
        }
        let state = State::from_snapshot(&snapshot)?;
        let plan = plan(&state, request, circumstances).map_err(ApplyError::Refused)?;
        let mut after = entries_of(&plan.intent, &plan.allocations);
        let foreign = snapshot.entries.iter().filter(|(key, _)| !is_known(key));
        after.extend(foreign.map(|(key, text)| (key.clone(), text.clone())));
        let change = Change { term, ..Change::between(&snapshot, &after) };
        tries += 1;
        match store.commit(change).await {
            Err(StoreError::Conflict { .. }) if tries < TRIES => {}
            Ok(revision) => return Ok((revision, plan)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_known(key: &str) -> bool {
    matches!(key.split_once('/'), Some(("object" | "held" | "released", _)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::testing::{CLUSTERS, intent};

    #[test]
    fn a_state_reads_back_from_its_entries() {
        let network = "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: red, labels: {a: b}}\n\
                       spec: {cluster: east, subnets: [{prefix: 10.1.0.0/24}]}\n";
        let with = intent(&format!("{CLUSTERS}{network}"));
        let held = allocate(&Allocations::default(), &with, &Circumstances::default()).expect("room");
        // One state holds numbers, the other has released them.
        let without = intent(CLUSTERS);
        let released = allocate(&held, &without, &Circumstances::default()).expect("room");
        for (intent, allocations) in [(with, held), (without, released)] {
            let entries = entries_of(&intent, &allocations);
            let snapshot = Snapshot { revision: Revision(7), entries, stale: None };
            let state = State::from_snapshot(&snapshot).expect("it is what was written");
            assert_eq!(state, State { revision: Revision(7), intent, allocations, stale: None });
        }
    }

    #[test]
    fn entries_that_cannot_be_right_are_named_and_those_of_newer_programs_left_alone() {
        let snapshot = |key: &str, text: &str| Snapshot {
            entries: [(key.to_owned(), text.to_owned())].into(),
            ..Snapshot::default()
        };
        for (key, text) in [
            ("object/Cluster/a", "{}"),
            ("object/Cluster/a", "noise"),
            ("held/x/vni/a", "1"),
            ("held/64512/vnn/a", "1"),
            ("held/64512/vni/a", "x"),
            ("released/64512/vni/1", "x"),
            ("released/64512/vni", "{}"),
        ] {
            let error = State::from_snapshot(&snapshot(key, text)).expect_err(key);
            assert!(error.to_string().contains(&format!("entry {key}: ")), "{error}");
        }
        assert_eq!(State::from_snapshot(&snapshot("later/x", "y")), Ok(State::default()));
    }
}
