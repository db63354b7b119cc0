//! Commands that look into a running controller. They change nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tieline_proto::federation::v1;
use tokio_stream::StreamExt as _;

use crate::backend;
use crate::cli::{Connection, Events, Format};
use crate::commands::{print, print_value};
use crate::error::{Error, Exit};
use crate::render;

/// Shows how everything is.
pub async fn status(connection: &Connection, format: Format) -> Result<Exit, Error> {
    let mut controller = backend::controller(connection).await?;
    let reply = controller.get_status(v1::GetStatusRequest {}).await;
    let reply = reply.map_err(|status| Error::from_status(&status, "read the status"))?.into_inner();
    match format {
        Format::Table => print(&render::status::status(&reply, now()))?,
        other => print_message(other, &reply)?,
    }
    Ok(Exit::Success)
}

/// Shows what has happened, and what happens.
pub async fn events(connection: &Connection, arguments: Events) -> Result<Exit, Error> {
    let mut controller = backend::controller(connection).await?;
    let Events { follow, after, json } = arguments;
    let request = v1::WatchEventsRequest { after: after.unwrap_or_default(), follow };
    let stream = controller.watch_events(request).await;
    let mut stream = stream.map_err(|status| Error::from_status(&status, "read the events"))?.into_inner();
    while let Some(reply) = stream.next().await {
        let reply = reply.map_err(|status| Error::from_status(&status, "go on reading events"))?;
        print(&if json { render::events::json(&reply) } else { render::events::line(&reply) })?;
    }
    match follow {
        true => Err(Error::Unreachable("the controller has ended: follow again once it is back".to_owned())),
        false => Ok(Exit::Success),
    }
}

/// Shows what is not as it should be.
pub async fn audit(connection: &Connection, format: Format) -> Result<Exit, Error> {
    let asking = async {
        let mut controller = backend::controller(connection).await?;
        let reply = controller.audit(v1::AuditRequest {}).await;
        Ok(reply.map_err(|status| Error::from_status(&status, "audit"))?.into_inner())
    };
    let reply: v1::AuditReply = match asking.await {
        Ok(reply) => reply,
        // Who could not look at anything could not look.
        Err(error) => return Err(Error::Usage(Error::to_string(&error))),
    };
    match format {
        Format::Table => print(&render::audit::audit(&reply))?,
        other => print_message(other, &reply)?,
    }
    Ok(match (reply.differences.is_empty(), reply.unseen.is_empty()) {
        (false, _) => Exit::Refused,
        (true, false) => Exit::Usage,
        (true, true) => Exit::Success,
    })
}

fn print_message(format: Format, message: &impl Serialize) -> Result<(), Error> {
    let value = serde_json::to_value(message).map_err(|error| Error::Refused(error.to_string()))?;
    print_value(format, &value)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
