//! Leadership by etcd's election: a lease that must be kept alive.

use std::sync::PoisonError;
use std::time::Duration;

use etcd_client::{LeaderKey, ResignOptions};
use tieline_process::essential;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{EtcdStore, asked, unsigned};
use crate::store::{Leadership, StoreError, Term};

/// Ends a task when it is dropped, so that a campaign that is given up leaves
/// no lease alive.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn campaign(store: EtcdStore, candidate: &str) -> Result<Leadership, StoreError> {
    let unavailable =
        |what: &str, failure: super::Failure| StoreError::Unavailable { reason: failure.reason(what) };
    let seconds = i64::try_from(store.lease.as_secs().max(1)).unwrap_or(i64::MAX);
    let lease = asked(store.client.lease_client().grant(seconds, None))
        .await
        .map_err(|failure| unavailable("get a lease", failure))?
        .id();
    let (lost_sender, mut lost) = watch::channel(false);
    let keeper = Task(tokio::spawn(essential::task(keep(store.clone(), lease, lost_sender.clone()))));
    let mut election = store.client.election_client();
    let won = tokio::select! {
        won = election.campaign(store.key("leader"), candidate, lease) => won,
        _ = lost.wait_for(|lost| *lost) => {
            let reason = "etcd: the lease ended while this controller was waiting to lead".to_owned();
            return Err(StoreError::Unavailable { reason });
        }
    };
    let won = won.map_err(|error| unavailable("campaign", super::Failure::Refused(error)))?;
    let Some(leader) = won.leader() else {
        return Err(StoreError::Unavailable { reason: "etcd: campaign: it named no leader".to_owned() });
    };
    let term = Term(unsigned(leader.rev()));
    offices(&store).insert(term, leader.key().to_vec());
    let (resign, resigned) = mpsc::channel(1);
    tokio::spawn(essential::task(hold(
        store,
        (term, leader.clone(), lease),
        keeper,
        (lost_sender, lost.clone()),
        resigned,
    )));
    Ok(Leadership { term, lost, resign })
}

fn offices(store: &EtcdStore) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<Term, Vec<u8>>> {
    store.shared.offices.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a lease alive until it cannot be.
async fn keep(store: EtcdStore, lease: i64, lost: watch::Sender<bool>) {
    let mut alive_until = Instant::now() + store.lease;
    while Instant::now() < alive_until {
        if let Ok((mut keeper, mut answers)) = asked(store.client.lease_client().keep_alive(lease)).await {
            loop {
                let asked_at = Instant::now();
                let answer = async {
                    keeper.keep_alive().await?;
                    answers.message().await
                };
                match tokio::time::timeout_at(alive_until, answer).await {
                    Ok(Ok(Some(answer))) if answer.ttl() > 0 => alive_until = asked_at + store.lease,
                    // The lease is over.
                    Ok(Ok(Some(_))) => alive_until = Instant::now(),
                    Ok(Ok(None) | Err(_)) | Err(_) => break,
                }
                if Instant::now() >= alive_until {
                    break;
                }
                tokio::time::sleep(store.lease / 3).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lost.send_replace(true);
}

/// Holds an office until it is resigned, dropped or lost.
async fn hold(
    store: EtcdStore,
    (term, leader, lease): (Term, LeaderKey, i64),
    keeper: Task,
    (lost_sender, mut lost): (watch::Sender<bool>, watch::Receiver<bool>),
    mut resigned: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let done = tokio::select! {
        done = resigned.recv() => done,
        _ = lost.wait_for(|lost| *lost) => None,
    };
    offices(&store).remove(&term);
    drop(keeper);
    lost_sender.send_replace(true);
    let options = ResignOptions::new().with_leader(leader);
    // Without an answer the lease ends by itself.
    let _ = asked(store.client.election_client().resign(Some(options))).await;
    let _ = asked(store.client.lease_client().revoke(lease)).await;
    if let Some(done) = done {
        let _ = done.send(());
    }
}
