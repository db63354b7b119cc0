//! `watch` and `exports`: what changes, as it changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tieline_proto::v1::watch_exports_reply::What as OfExports;
use tieline_proto::v1::watch_reply::What;
use tieline_proto::v1::{Export, WatchExportsReply, WatchExportsRequest, WatchReply, WatchRequest};
use tonic::Streaming;

use super::print_value;
use crate::cli::{Exports, Format, Watch};
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::{documents, encode};
use crate::output;
use crate::render::{exports as render_exports, watch as render};

/// Prints objects and events as they come, until the daemon goes away.
pub async fn watch(target: &Target, args: &Watch) -> Result<Exit, Error> {
    const WHAT: &str = "watch objects";
    let request = WatchRequest {
        kinds: args.kinds.iter().map(|kind| kind.object_kind().into()).collect(),
        events: args.events,
        resume_token: args.resume.clone(),
    };
    let mut client = target.connect().await?.control();
    let mut replies = ask(WHAT, client.watch(request)).await?;
    loop {
        let reply = next(&mut replies, WHAT).await?;
        print_line(args.output.format, || watched(&reply), || render::line(&reply))?;
    }
}

/// Shows what the VRFs originate, and goes on with changes if asked to.
pub async fn exports(target: &Target, args: &Exports) -> Result<Exit, Error> {
    const WHAT: &str = "read the exports";
    let mut client = target.connect().await?.control();
    let request = WatchExportsRequest { vrfs: args.vrfs.clone() };
    let mut replies = ask(WHAT, client.watch_exports(request)).await?;
    if args.follow {
        loop {
            let reply = next(&mut replies, WHAT).await?;
            print_line(args.output.format, || encode::reply(&reply), || render_exports::line(&reply))?;
        }
    }
    let exports = all_exports(&mut replies, WHAT).await?;
    print_value(
        args.output.format,
        || exports.iter().map(encode::reply).collect::<Value>(),
        || render_exports::table(&exports),
    )
}

/// All exports as they are, in the order of VRF and prefix as texts.
async fn all_exports(replies: &mut Streaming<WatchExportsReply>, what: &str) -> Result<Vec<Export>, Error> {
    let mut exports = BTreeMap::new();
    loop {
        match next(replies, what).await?.what {
            Some(OfExports::Export(export)) => {
                exports.insert((export.vrf.clone(), export.prefix.clone()), export);
            }
            Some(OfExports::Withdrawn(key)) => {
                exports.remove(&(key.vrf, key.prefix));
            }
            Some(OfExports::Lost(_)) => exports.clear(),
            Some(OfExports::CaughtUp(_)) => return Ok(exports.into_values().collect()),
            None => {}
        }
    }
}

async fn next<T>(replies: &mut Streaming<T>, what: &str) -> Result<T, Error> {
    let reply = replies.message().await.map_err(|status| Error::from_status(&status, what))?;
    reply.ok_or_else(|| {
        Error::Unreachable(format!(
            "the daemon ended the stream while tlctl was trying to {what}. Check that it is running, then try again"
        ))
    })
}

/// One line of text or JSON, or one YAML document.
fn print_line(
    format: Format,
    value: impl FnOnce() -> Value,
    line: impl FnOnce() -> String,
) -> Result<(), Error> {
    let text = match format {
        Format::Table => format!("{}\n", line()),
        Format::Json => format!("{}\n", value()),
        Format::Yaml => format!("---\n{}", documents::to_yaml(&[value()])?),
    };
    Ok(output::print(&text)?)
}

/// Objects as `get` writes them.
fn watched(reply: &WatchReply) -> Value {
    let Some(What::Object(item)) = &reply.what else { return encode::reply(reply) };
    json!({"object": encode::object_with_status(item), "resume_token": reply.resume_token})
}
