//! `routes`, `sessions`, `neighbours`, `drops` and `problems`: what the gateway
//! does now.

use serde_json::Value;
use tieline_proto::v1::{
    GetDropsRequest, ListNeighboursRequest, ListProblemsRequest, ListRoutesRequest, ListSessionsRequest,
};

use super::print_value;
use crate::cli::{Drops, Format, Routes, Sessions};
use crate::client::{Target, ask, ask_for_all};
use crate::error::{Error, Exit};
use crate::friendly::encode;
use crate::render::operations as render;

/// Shows a VRF's forwarding table, or what one address matches.
pub async fn routes(target: &Target, args: &Routes) -> Result<Exit, Error> {
    let mut client = target.connect().await?.operations();
    let what = format!("list the routes of vrf/{}", args.vrf);
    let address = args.address.map(|address| address.to_string()).unwrap_or_default();
    let mut routes = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListRoutesRequest { vrf: args.vrf.clone(), address: address.clone(), page_size: 0, page_token };
        let reply = ask(&what, client.list_routes(request)).await?;
        routes.extend(reply.routes);
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if let (Some(address), true) = (args.address, routes.is_empty()) {
        return Err(Error::NotFound(format!("vrf/{} has no route to {address}", args.vrf)));
    }
    print_value(
        args.output.format,
        || routes.iter().map(encode::reply).collect::<Value>(),
        || render::routes(&routes, args.wide),
    )
}

/// Shows live sessions.
pub async fn sessions(target: &Target, args: &Sessions) -> Result<Exit, Error> {
    let mut client = target.connect().await?.operations();
    let request = ListSessionsRequest { vrf: args.vrf.clone().unwrap_or_default(), limit: args.limit };
    let replies = ask_for_all("list sessions", client.list_sessions(request)).await?;
    let reply = replies
        .into_iter()
        .reduce(|mut all, more| {
            all.sessions.extend(more.sessions);
            all
        })
        .unwrap_or_default();
    print_value(args.output.format, || encode::reply(&reply), || render::sessions(&reply, args.wide))
}

/// Shows neighbours.
pub async fn neighbours(target: &Target, format: Format) -> Result<Exit, Error> {
    let mut client = target.connect().await?.operations();
    let replies = ask_for_all("list neighbours", client.list_neighbours(ListNeighboursRequest {})).await?;
    let neighbours: Vec<_> = replies.into_iter().flat_map(|reply| reply.neighbours).collect();
    print_value(
        format,
        || neighbours.iter().map(encode::reply).collect::<Value>(),
        || render::neighbours(&neighbours),
    )
}

/// Shows drops by reason.
pub async fn drops(target: &Target, args: &Drops) -> Result<Exit, Error> {
    let mut client = target.connect().await?.operations();
    let request = GetDropsRequest {
        interface: args.interface.clone().unwrap_or_default(),
        vrf: args.vrf.clone().unwrap_or_default(),
    };
    let reply = ask("read drops", client.get_drops(request)).await?;
    print_value(
        args.output.format,
        || reply.drops.iter().map(encode::reply).collect::<Value>(),
        || render::drops(&reply.drops),
    )
}

/// Shows what is wrong.
pub async fn problems(target: &Target, format: Format) -> Result<Exit, Error> {
    let mut client = target.connect().await?.operations();
    let reply = ask("list problems", client.list_problems(ListProblemsRequest {})).await?;
    print_value(
        format,
        || reply.problems.iter().map(encode::reply).collect::<Value>(),
        || render::problems(&reply.problems),
    )
}
