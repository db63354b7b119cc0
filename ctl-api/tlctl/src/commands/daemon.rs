//! `version` and `wait`: about the daemon itself.

use std::time::{Duration, Instant};

use serde_json::json;
use tieline_proto::v1::{GetVersionReply, GetVersionRequest};

use super::print_value;
use crate::cli::{Format, Wait};
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::encode;
use crate::output;
use crate::render::operations::{client_version, daemon_version};

/// How often a daemon that does not answer is tried.
const RETRY: Duration = Duration::from_millis(200);
const CLIENT_VERSION: &str = env!("CARGO_PKG_VERSION");

async fn ask_version(target: &Target) -> Result<GetVersionReply, Error> {
    let mut client = target.connect().await?.operations();
    ask("read the version", client.get_version(GetVersionRequest {})).await
}

/// Shows both versions. The client's is shown also when there is no daemon.
pub async fn version(target: &Target, format: Format) -> Result<Exit, Error> {
    match ask_version(target).await {
        Ok(reply) => print_value(
            format,
            || json!({"client": {"version": CLIENT_VERSION}, "daemon": encode::reply(&reply)}),
            || format!("{}{}", client_version(CLIENT_VERSION), daemon_version(&reply)),
        ),
        Err(error) => {
            print_value(
                format,
                || json!({"client": {"version": CLIENT_VERSION}}),
                || client_version(CLIENT_VERSION),
            )?;
            Err(error)
        }
    }
}

/// Waits until the daemon answers.
pub async fn wait(target: &Target, args: &Wait) -> Result<Exit, Error> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut why = "it did not answer".to_owned();
    loop {
        // At least one question is asked, however short the time.
        match tokio::time::timeout(left(deadline).max(RETRY), ask_version(target)).await {
            Ok(Ok(reply)) => {
                output::print(&daemon_version(&reply))?;
                return Ok(Exit::Success);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => {}
        }
        if left(deadline).is_zero() {
            return Err(Error::Unreachable(format!(
                "gave up waiting for the daemon after {} s: {why}",
                args.timeout
            )));
        }
        tokio::time::sleep(RETRY.min(left(deadline))).await;
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
