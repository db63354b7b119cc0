//! YAML as a tree in which everything knows its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl From<serde_saphyr::Location> for Position {
    fn from(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub position: Position,
    /// The value.
    pub content: Content,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping.
    Map(Vec<Member>),
}

/// A member of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its key.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// A member of a mapping.
    pub fn member(&self, key: &str) -> Option<&Member> {
        match &self.content {
            Content::Map(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    /// Where the field with this path stands: `spec.subnets[1].prefix`. Of what
    /// is not there, where the nearest thing around it stands.
    pub fn locate(&self, path: &str) -> Position {
        let mut node = self;
        for step in steps(path) {
            let next = match (&node.content, step) {
                (Content::Map(_), Step::Member(key)) => node.member(key).map(|member| &member.value),
                (Content::List(items), Step::Item(index)) => items.get(index),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.position
    }

    /// The value without places. None for a number that JSON does not have.
    pub fn to_value(&self) -> Option<Value> {
        Some(match &self.content {
            Content::Null => Value::Null,
            Content::Bool(truth) => Value::Bool(*truth),
            Content::Integer(number) => Value::Number(Number::from_i128(*number)?),
            Content::Float(number) => Value::Number(Number::from_f64(*number)?),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect::<Option<_>>()?),
            Content::Map(members) => {
                let mut map = Map::new();
                for member in members {
                    map.insert(member.key.clone(), member.value.to_value()?);
                }
                Value::Object(map)
            }
        })
    }

    /// What it is, short enough for a sentence.
    pub fn name(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Bool(truth) => truth.to_string(),
            Content::Integer(number) => number.to_string(),
            Content::Float(number) => number.to_string(),
            Content::Text(text) => super::names::quoted(text),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }
}

enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).map(|part| {
        match part.strip_suffix(']').map(str::parse) {
            Some(Ok(index)) => Step::Item(index),
            _ => Step::Member(part),
        }
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { position: spanned.referenced.into(), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Content, E> {
        Ok(Content::Bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Content, E> {
        Ok(Content::Integer(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Content, E> {
        Ok(Content::Integer(number.into()))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Content, E> {
        Ok(Content::Integer(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Content, E> {
        Ok(Content::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
        Ok(Content::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = members.next_key::<Spanned<String>>()? {
            let value = members.next_value()?;
            map.push(Member { key: key.value, position: key.referenced.into(), value });
        }
        Ok(Content::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_knows_its_place() {
        let node: Node =
            serde_saphyr::from_str("a:\n  - x: 1\n    y: [two, 3.5, null, true]\nb: 02:00:00:00:00:01\n")
                .expect("valid YAML");
        let at = |path: &str| (node.locate(path).line, node.locate(path).column);
        assert_eq!(at(""), (1, 1));
        assert_eq!(at("a[0].x"), (2, 8));
        assert_eq!(at("a[0].y[1]"), (3, 14));
        assert_eq!(at("a[0].z"), (2, 5), "of what is not there, the mapping that lacks it");
        assert_eq!(at("b"), (4, 4));
        assert_eq!(
            node.to_value(),
            Some(
                serde_json::json!({"a": [{"x": 1, "y": ["two", 3.5, null, true]}], "b": "02:00:00:00:00:01"})
            )
        );
        assert_eq!(node.member("b").map(|member| member.position), Some(Position { line: 4, column: 1 }));
    }
}
