//! `get` and `list`: objects read back, with their status.

use serde_json::Value;
use tieline_proto::v1::{GetRequest, ListFilter, ListRequest, ObjectState, ObjectWithStatus};

use crate::cli::{Filter, Format, Get, List, State};
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::{documents, encode};
use crate::kind::{Kind, display_key};
use crate::output;
use crate::render;

/// Shows one object.
pub async fn get(target: &Target, args: &Get) -> Result<Exit, Error> {
    let mut keys = args.kind.parse_keys(&args.key)?;
    let (Some(key), true) = (keys.pop(), keys.is_empty()) else {
        return Err(Error::Usage(format!(
            "`get {}` shows one object; `list` shows them all",
            args.kind.name()
        )));
    };
    let name = display_key(&key);
    let what = format!("read {name}");
    let request = GetRequest { key: Some(key), controller: args.controller.clone().unwrap_or_default() };
    let mut client = target.connect().await?.control();
    let reply = ask(&what, client.get(request)).await?;
    let item = reply
        .item
        .filter(|item| item.object.is_some())
        .ok_or_else(|| Error::Daemon(format!("cannot {what}: the daemon answered without the object")))?;
    print(args.kind, &[item], args.output.format, Shape::Single)
}

/// Shows the objects of a kind.
pub async fn list(target: &Target, args: &List) -> Result<Exit, Error> {
    let mut client = target.connect().await?.control();
    let what = format!("list objects of kind {}", args.kind.name());
    let filter = filter(&args.filter);
    let mut items = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRequest {
            kind: args.kind.object_kind().into(),
            page_size: 0,
            page_token,
            filter: filter.clone(),
        };
        let reply = ask(&what, client.list(request)).await?;
        items.extend(reply.items);
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            let shape = if args.wide { Shape::Wide } else { Shape::Narrow };
            return print(args.kind, &items, args.output.format, shape);
        }
    }
}

/// The filter, if it says anything.
fn filter(args: &Filter) -> Option<ListFilter> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let state = match args.state {
        None => ObjectState::Unspecified,
        Some(State::Ready) => ObjectState::Ready,
        Some(State::Waiting) => ObjectState::Waiting,
        Some(State::Degraded) => ObjectState::Degraded,
        Some(State::Pending) => ObjectState::Pending,
    };
    let filter = ListFilter {
        controller: text(&args.controller),
        vrf: text(&args.vrf),
        state: state.into(),
        within: text(&args.within),
        route_target: text(&args.route_target),
        next_hop: text(&args.next_hop),
    };
    (filter != ListFilter::default()).then_some(filter)
}

/// How much of the objects a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    Narrow,
    Wide,
}

/// YAML is a document for each object and JSON of several is a list: `apply`
/// reads both.
fn print(kind: Kind, items: &[ObjectWithStatus], format: Format, shape: Shape) -> Result<Exit, Error> {
    let values = || items.iter().map(encode::object_with_status);
    let text = match format {
        Format::Table if shape == Shape::Single => render::objects::detail(kind, items),
        Format::Table => render::objects::table(kind, items, shape == Shape::Wide),
        Format::Json if shape == Shape::Single => values().map(|value| format!("{value:#}\n")).collect(),
        Format::Json => format!("{:#}\n", values().collect::<Value>()),
        Format::Yaml => documents::to_yaml(&values().collect::<Vec<_>>())?,
    };
    output::print(&text)?;
    Ok(Exit::Success)
}
