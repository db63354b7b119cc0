//! The fields of one document against the schema of its kind: every wrong field
//! is found, each with its place.

use serde_json::{Map, Value};

use super::located::{Content, Member, Node, Position};
use super::names::quoted;
use crate::text::{check_format, check_number_format};

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongField {
    /// Where it stands.
    pub position: Position,
    /// Its path, such as `spec.subnets[1].prefix`.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// Checks a document against a schema.
pub fn check(document: &Node, schema: &Value) -> Vec<WrongField> {
    let mut check = Check { root: schema, wrong: Vec::new() };
    check.value(document, schema, "");
    check.wrong
}

struct Check<'a> {
    root: &'a Value,
    wrong: Vec<WrongField>,
}

impl Check<'_> {
    fn report(&mut self, at: Position, path: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        let path = path.to_owned();
        self.wrong.push(WrongField { position: at, path, reason: reason.into(), remedy: remedy.into() });
    }

    fn value(&mut self, node: &Node, schema: &Value, path: &str) {
        let Some(schema) = self.resolve(schema) else { return };
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            // An optional structure: nothing, or the structure.
            let of_null = |one: &&Value| one["type"] == "null";
            if !(node.content == Content::Null && choices.iter().any(|one| of_null(&one)))
                && let Some(other) = choices.iter().find(|one| !of_null(one))
            {
                self.value(node, other, path);
            }
            return;
        }
        if let Some(choices) = choices(schema) {
            self.choice(node, &choices, path);
            return;
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|name| has_type(node, name)) {
            self.wrong_type(node, &types, path);
            return;
        }
        match &node.content {
            Content::Map(members) => self.map(node, members, schema, path),
            Content::List(items) => self.list(node, items, schema, path),
            Content::Text(text) => self.text(node, text, schema, path),
            Content::Integer(number) => self.integer(node, *number, schema, path),
            _ => {}
        }
    }

    /// Follows a reference into the definitions.
    fn resolve<'s>(&self, schema: &'s Value) -> Option<&'s Value>
    where
        Self: 's,
    {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.root.pointer(reference.strip_prefix('#')?),
            None => Some(schema),
        }
    }

    fn wrong_type(&mut self, node: &Node, types: &[&str], path: &str) {
        let wanted: Vec<&str> =
            types.iter().filter(|name| **name != "null").map(|name| called(name)).collect();
        let remedy = match &node.content {
            Content::Integer(_) | Content::Float(_) | Content::Bool(_) if types.contains(&"string") => {
                "put it in quotes"
            }
            Content::Null => "give it a value or leave the field out",
            _ => "",
        };
        self.report(
            node.position,
            path,
            format!("must be {}, not {}", wanted.join(" or "), node.name()),
            remedy,
        );
    }

    fn choice(&mut self, node: &Node, choices: &[&Value], path: &str) {
        let fits = match &node.content {
            Content::Text(text) => choices.iter().any(|choice| choice.as_str() == Some(text)),
            Content::Null => choices.iter().any(|choice| choice.is_null()),
            _ => false,
        };
        if !fits {
            let known: Vec<&str> = choices.iter().filter_map(|choice| choice.as_str()).collect();
            let reason = format!("{} is not among what is allowed here", node.name());
            self.report(node.position, path, reason, format!("use {}", listed(&known)));
        }
    }

    fn map(&mut self, node: &Node, members: &[Member], schema: &Value, path: &str) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let key_format = schema.pointer("/propertyNames/format").and_then(Value::as_str);
        for member in members {
            let path = join(path, &member.key);
            if let Some(Err(reason)) = key_format.and_then(|format| check_format(format, &member.key)) {
                self.report(member.position, &path, reason, "");
            }
            match (properties.get(&member.key), schema.get("additionalProperties")) {
                (Some(schema), _) => self.value(&member.value, schema, &path),
                (None, Some(Value::Bool(false))) => self.unknown(member, properties, &path),
                (None, Some(schema)) => self.value(&member.value, schema, &path),
                (None, None) => {}
            }
        }
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = required.as_str()
                && !members.iter().any(|member| member.key == name)
            {
                let what = self.describe(properties.get(name));
                self.report(node.position, &join(path, name), "is missing", what);
            }
        }
    }

    /// What a field is, for the one who has left it out.
    fn describe(&self, property: Option<&Value>) -> String {
        let Some(property) = property else { return String::new() };
        if let Some(value) = property.get("const") {
            return format!("write {value}");
        }
        let own = property.get("description");
        let described = own.or_else(|| self.resolve(property).and_then(|schema| schema.get("description")));
        let text = described.and_then(Value::as_str).unwrap_or_default();
        let sentence = text.split(['\n', ';', '.']).next().unwrap_or_default().trim();
        if sentence.is_empty() { String::new() } else { format!("give it: {}", lower_first(sentence)) }
    }

    fn unknown(&mut self, member: &Member, properties: &Map<String, Value>, path: &str) {
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let remedy = match nearest(&member.key, &known) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", listed(&known)),
        };
        self.report(member.position, path, "there is no such field", remedy);
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &Value, path: &str) {
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(least) = bound("minItems")
            && (items.len() as u64) < least
        {
            self.report(
                node.position,
                path,
                format!("has {} items, at least {least} are needed", items.len()),
                "",
            );
        }
        if let Some(most) = bound("maxItems")
            && items.len() as u64 > most
        {
            self.report(
                node.position,
                path,
                format!("has {} items, at most {most} are allowed", items.len()),
                "",
            );
        }
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(item, schema, &format!("{path}[{index}]"));
            }
        }
    }

    fn text(&mut self, node: &Node, text: &str, schema: &Value, path: &str) {
        if let Some(value) = schema.get("const").and_then(Value::as_str) {
            if value != text {
                self.report(node.position, path, format!("must be {value}, not {}", quoted(text)), "");
            }
            return;
        }
        let length = text.chars().count() as u64;
        let bound = |name: &str, otherwise| schema.get(name).and_then(Value::as_u64).unwrap_or(otherwise);
        let (least, most) = (bound("minLength", 0), bound("maxLength", u64::MAX));
        if !(least..=most).contains(&length) {
            let reason = format!("has {length} characters, {least} to {most} are allowed");
            self.report(node.position, path, reason, "");
        }
        let format = schema.get("format").and_then(Value::as_str);
        if let Some(Err(reason)) = format.and_then(|format| check_format(format, text)) {
            self.report(node.position, path, reason, "");
        }
    }

    fn integer(&mut self, node: &Node, number: i128, schema: &Value, path: &str) {
        let format = schema.get("format").and_then(Value::as_str);
        let (low, high) = width(format);
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64).map(i128::from);
        let least = bound("minimum").unwrap_or(low).max(low);
        let most = bound("maximum").unwrap_or(high).min(high);
        if !(least..=most).contains(&number) {
            let reason = format!("must be a whole number from {least} to {most}, not {number}");
            self.report(node.position, path, reason, "");
            return;
        }
        let checked = format.and_then(|format| match u64::try_from(number) {
            Ok(value) => {
                check_number_format(format, value).or_else(|| check_format(format, &value.to_string()))
            }
            Err(_) => check_format(format, &number.to_string()),
        });
        if let Some(Err(reason)) = checked {
            self.report(node.position, path, reason, "");
        }
    }
}

/// What an integer of a format can hold.
fn width(format: Option<&str>) -> (i128, i128) {
    match format {
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        _ => (i64::MIN.into(), u64::MAX.into()),
    }
}

/// The values of an enumeration, if it is one.
fn choices(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(values.iter().collect());
    }
    let cases = schema.get("oneOf").and_then(Value::as_array)?;
    let mut values = Vec::new();
    for case in cases {
        match (case.get("const"), case.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => values.push(value),
            (None, Some(several)) => values.extend(several),
            (None, None) => {}
        }
    }
    Some(values)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn has_type(node: &Node, name: &str) -> bool {
    match &node.content {
        Content::Null => name == "null",
        Content::Bool(_) => name == "boolean",
        Content::Integer(_) => name == "integer" || name == "number",
        Content::Float(_) => name == "number",
        Content::Text(_) => name == "string",
        Content::List(_) => name == "array",
        Content::Map(_) => name == "object",
    }
}

fn called(name: &str) -> &str {
    match name {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "string" => "a text",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

fn join(path: &str, member: &str) -> String {
    // A key is from outside and may be anything.
    let member: String = member.chars().take(63).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if path.is_empty() { member } else { format!("{path}.{member}") }
}

fn listed(known: &[&str]) -> String {
    known.join(", ")
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // Not of an abbreviation.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// The known name that `wrong` is a slip of, if there is one.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 40;
    const SLIPS: usize = 2;
    if wrong.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let best = known.iter().map(|name| (distance(&plain(wrong), &plain(name)), *name)).min()?;
    (best.0 <= SLIPS && best.0 < wrong.len()).then_some(best.1)
}

/// Letters to change, add or take away to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::kinds::Kind;
    use crate::intent::schema;

    fn wrong(kind: Kind, text: &str) -> Vec<String> {
        let node: Node = serde_saphyr::from_str(text).expect("valid YAML");
        check(&node, schema::of(kind))
            .into_iter()
            .map(|wrong| {
                let Position { line, column } = wrong.position;
                format!("{line}:{column} {}: {}: {}", wrong.path, wrong.reason, wrong.remedy)
            })
            .collect()
    }

    #[test]
    fn every_wrong_field_is_named_with_its_place() {
        let text = "\
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: Red, labels: {tier: 1, \"a b\": x}}
spec:
  subnet: []
  subnets:
  - prefix: 10.1.0.1/24
    gateway: 10.1.0
  - {}
  routeTargets: {both: [\"64512\"]}
  isolated: yep
  vni: 16777216
";
        assert_eq!(
            wrong(Kind::VirtualNetwork, text),
            [
                "3:18 metadata.name: \"Red\" is not a name: use 1 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends: ",
                "3:38 metadata.labels.tier: must be a text, not 1: put it in quotes",
                "3:41 metadata.labels.a b: \"a b\" is not the key of a label: use 1 to 63 letters, digits, '-', '_', '.' and '/': ",
                "5:3 spec.subnet: there is no such field: did you mean subnets?",
                "7:13 spec.subnets[0].prefix: 10.1.0.1/24 has host bits: write 10.1.0.0/24: ",
                "8:14 spec.subnets[0].gateway: \"10.1.0\" is not an IP address: write 198.18.0.1 or 2001:db8::1: ",
                "9:5 spec.subnets[1].prefix: is missing: give it: its prefix",
                "10:25 spec.routeTargets.both[0]: \"64512\" has no colon: write ASN:NUMBER, such as 64512:100: ",
                "11:13 spec.isolated: must be true or false, not \"yep\": ",
                "12:8 spec.vni: must be a whole number from 1 to 16777215, not 16777216: ",
                "5:3 spec.cluster: is missing: give it: name of the cluster",
            ]
        );
    }

    #[test]
    fn choices_optional_structures_and_both_forms_of_numbers() {
        let text = "\
apiVersion: tieline.io/v2
kind: SecurityGroup
metadata: {name: web}
spec:
  cluster: east
  ingress:
  - {protocol: tcp, ports: 80, family: ipv5}
  - {protocol: 300, ports: 8000-8010, icmpType: 256, remote: ~}
  - {protocol: 6, ports: x, remote: {prefx: 10.0.0.0/8}}
";
        assert_eq!(
            wrong(Kind::SecurityGroup, text),
            [
                "1:13 apiVersion: must be tieline.io/v1, not \"tieline.io/v2\": ",
                "7:40 spec.ingress[0].family: \"ipv5\" is not among what is allowed here: use ipv4, ipv6",
                "8:16 spec.ingress[1].protocol: \"300\" is not an IP protocol: use icmp, tcp, udp, gre, esp, icmpv6, sctp or a number up to 255: ",
                "8:49 spec.ingress[1].icmpType: must be a whole number from 0 to 255, not 256: ",
                "9:26 spec.ingress[2].ports: \"x\" is not a range of ports: write 80 or 8000-8010: ",
                "9:38 spec.ingress[2].remote.prefx: there is no such field: did you mean prefix?",
            ]
        );
    }

    #[test]
    fn reserved_as_numbers_are_found_too() {
        let text = "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {name: a}\nspec: {asn: 23456}\n";
        assert_eq!(
            wrong(Kind::Cluster, text),
            ["4:13 spec.asn: 23456 is AS_TRANS (RFC 6793) and belongs to nobody: "]
        );
    }
}
