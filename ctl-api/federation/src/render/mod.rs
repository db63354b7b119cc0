//! Answers as text: pure functions.

pub mod audit;
pub mod events;
pub mod status;

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tieline_federation::intent::ObjectKey;
use tieline_federation::intent::diff::Difference;
use tieline_federation::intent::kinds::connection::Layer;
use tieline_federation::intent::kinds::{Kind, Spec};
use tieline_federation::intent::read::from_document;
use tieline_proto::federation::v1;

use crate::cli::Format;

/// A value as JSON or YAML.
pub fn value(format: Format, value: &Value) -> Result<String, String> {
    match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
        Format::Json | Format::Table => {
            let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
            Ok(text + "\n")
        }
    }
}

/// A table without lines: headings, then the rows.
fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Texts come from outside: nothing in them may move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// All kinds.
pub fn kinds() -> String {
    let row = |kind: &Kind| vec![kind.name().to_owned(), kind.summary().to_owned()];
    table(&["KIND", "WHAT IT IS"], Kind::ALL.iter().map(row))
}

/// Problems, one a line.
pub fn problems(problems: &[v1::Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let mut line = String::new();
        if !problem.file.is_empty() {
            let _ = write!(line, "{}:{}:{}: ", problem.file, problem.line, problem.column);
        }
        for part in [&problem.key, &problem.field].into_iter().filter(|part| !part.is_empty()) {
            let _ = write!(line, "{part}: ");
        }
        line.push_str(&problem.reason);
        if !problem.remedy.is_empty() {
            let _ = write!(line, ": {}", problem.remedy);
        }
        let _ = writeln!(text, "{} [{}]", printable(&line), problem.rule);
    }
    let _ = writeln!(text, "{} problems; nothing was changed", problems.len());
    text
}

/// Problems for programs.
pub fn problem_values(problems: &[v1::Problem]) -> Value {
    let one = |problem: &v1::Problem| {
        json!({
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "object": problem.key,
            "field": problem.field,
            "rule": problem.rule,
            "reason": problem.reason,
            "remedy": problem.remedy,
        })
    };
    problems.iter().map(one).collect()
}

/// A difference, and the revision that has it.
pub fn difference(difference: &Difference, revision: Option<u64>) -> String {
    let text: String = difference.to_string().lines().map(|line| printable(line) + "\n").collect();
    match revision {
        Some(revision) if !difference.is_empty() => format!("{text}revision {revision}\n"),
        _ => text,
    }
}

/// Objects: a table, or their documents.
pub fn objects(format: Format, objects: &[v1::Object]) -> Result<String, String> {
    let documents: Result<Vec<Value>, String> = objects
        .iter()
        .map(|object| serde_json::from_str(&object.json).map_err(|error| format!("{}: {error}", object.key)))
        .collect();
    let documents = documents?;
    match format {
        Format::Json => value(format, &Value::Array(documents)),
        Format::Yaml => {
            let texts: Result<Vec<String>, String> = documents.iter().map(|one| value(format, one)).collect();
            Ok(texts?.join("---\n"))
        }
        Format::Table => {
            let rows =
                documents.into_iter().zip(objects).map(|(document, object)| match from_document(document) {
                    Ok((key, read)) => row(&key, summary(&read.spec)),
                    Err(error) => vec![object.key.clone(), String::new(), String::new(), error],
                });
            Ok(table(&["KIND", "NAMESPACE", "NAME", "WHAT IT SAYS"], rows))
        }
    }
}

fn row(key: &ObjectKey, summary: String) -> Vec<String> {
    let namespace = key.namespace.as_ref().map_or("-".to_owned(), ToString::to_string);
    vec![key.kind.to_string(), namespace, key.name.to_string(), summary]
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// What matters of an object, in a line.
fn summary(spec: &Spec) -> String {
    match spec {
        Spec::Cluster(cluster) => {
            let gateways = listed(cluster.gateways.iter().map(|gateway| &gateway.name));
            format!("AS {}, gateways {gateways}", cluster.asn)
        }
        Spec::Site(site) => format!("of {}, gateways {}", site.cluster, listed(&site.gateways)),
        Spec::Peer(peer) => {
            let reflector = if peer.reflector == Some(true) { "reflector " } else { "" };
            let families = listed(&peer.families);
            format!("{reflector}of {}, AS {} at {}, {families}", peer.cluster, peer.asn, peer.address)
        }
        Spec::VirtualNetwork(network) => {
            let subnets = listed(network.subnets.iter().map(|subnet| subnet.prefix));
            let isolated = if network.isolated { ", isolated" } else { "" };
            format!("of {}, {subnets}{isolated}", network.cluster)
        }
        Spec::Connection(connection) => {
            let layer = match connection.layer {
                Layer::L2 => "L2",
                Layer::L3 => "L3",
            };
            format!("{layer}, {}: {}", connection.user_route_target, listed(&connection.networks))
        }
        Spec::VirtualNetworkRouter(router) => {
            let form = if router.mesh.is_some() { "mesh" } else { "hub and spoke" };
            format!("of {}, {form}", router.cluster)
        }
        Spec::SecurityGroup(group) => {
            let id = group.id.map_or("allocated".to_owned(), |id| id.to_string());
            let (ingress, egress) = (group.ingress.len(), group.egress.len());
            format!("of {}, ID {id}, {ingress} rules in, {egress} out", group.cluster)
        }
        Spec::NetworkPolicy(policy) => format!("of {}, {} rules", policy.cluster, policy.rules.len()),
        Spec::Endpoint(endpoint) => {
            let port = endpoint.interface.port.as_str();
            format!("in {} at {} {port}, {}", endpoint.network, endpoint.gateway, listed(&endpoint.addresses))
        }
    }
}

/// A change that was seen, a line for each object.
pub fn watched(reply: &v1::WatchReply) -> String {
    let mut text = String::new();
    if reply.relisted {
        let _ = writeln!(text, "{} all objects again", reply.revision);
    }
    for object in &reply.objects {
        let _ = writeln!(text, "{} + {}", reply.revision, printable(&object.key));
    }
    for key in &reply.removed {
        let _ = writeln!(text, "{} - {}", reply.revision, printable(key));
    }
    text
}
