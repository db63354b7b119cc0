//! Signals of the operator: to end, to read files again.

use tokio::signal::unix::Signal;

/// Waits for a signal.
pub async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        // It will never come any more.
        std::future::pending::<()>().await;
    }
}
