//! What batches may take while they wait to be carried out.

use std::sync::Arc;

use tieline_gate::accounts::{Account, KIB};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// What may wait of all sessions together.
#[derive(Debug, Clone)]
pub struct Shares {
    all: Arc<Semaphore>,
}

/// What a batch takes: of its peer's and of everybody's.
#[derive(Debug)]
pub struct Share {
    _peer: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Shares {
    /// So many bytes.
    pub fn of(bytes: usize) -> Self {
        Self { all: Arc::new(Semaphore::new((bytes / KIB).clamp(2, u32::MAX as usize))) }
    }

    /// Waits for room for a batch of a peer, first within what the peer may have,
    /// so that it does not stand in the way of others meanwhile. A batch larger
    /// than that takes all of it.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn take(&self, account: &Account, bytes: usize) -> Result<Share, Status> {
        let most = account.limits().waiting / 2 / KIB;
        let units = u32::try_from(bytes.div_ceil(KIB).clamp(1, most)).unwrap_or(u32::MAX);
        let take = async |of: &Arc<Semaphore>| {
            let taken = Arc::clone(of).acquire_many_owned(units).await;
            taken.map_err(|_| Status::unavailable("the daemon is stopping"))
        };
        Ok(Share { _peer: take(account.waiting()).await?, _all: take(&self.all).await? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use tieline_gate::accounts::{Accounts, Owner};
    use tieline_gate::limits::ApiLimits;

    #[tokio::test]
    async fn a_peer_takes_half_at_most_and_no_batch_is_too_large() {
        let limits = ApiLimits { waiting: 20 * KIB, ..ApiLimits::default() };
        let (accounts, now) = (Accounts::new(limits.clone()), Instant::now());
        let greedy = accounts.connect(Owner::User(1), now).expect("a connection");
        let other = accounts.connect(Owner::User(2), now).expect("a connection");
        let shares = Shares::of(limits.waiting);
        let huge = shares.take(greedy.account(), 1000 * KIB).await.expect("its turn");
        assert_eq!(shares.all.available_permits(), 10);
        let more = shares.take(greedy.account(), 0);
        tokio::time::timeout(Duration::from_millis(20), more).await.expect_err("it has its half");
        let _others = shares.take(other.account(), 10 * KIB).await.expect("theirs is free");
        drop(huge);
        let _one = shares.take(greedy.account(), 0).await.expect("at least one");
        assert_eq!(shares.all.available_permits(), 9);
    }
}
