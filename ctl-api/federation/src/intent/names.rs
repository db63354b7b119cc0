//! Names, references and labels.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::text::text_type;

/// Longest name, label key and label value, in bytes.
const MOST: usize = 63;

/// Name of an object: 1 to 63 of `a-z 0-9 - .`, a letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace of objects that name none.
    pub fn default_namespace() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let ends =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let bytes = text.as_bytes();
        if bytes.len() > MOST
            || !bytes.iter().all(|&byte| inner(byte))
            || !ends(bytes.first())
            || !ends(bytes.last())
        {
            return Err(format!(
                "{} is not a name: use 1 to {MOST} of a-z, 0-9, '-' and '.', with a letter or digit at both ends",
                quoted(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_type!(Name, "name", "Name: 1 to 63 of a-z, 0-9, '-' and '.'", "red");

/// Names an object of a known kind: `red`, or `shop/red` in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The namespace, when it is not that of who refers.
    pub namespace: Option<Name>,
    /// The name.
    pub name: Name,
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self { namespace: Some(namespace.parse()?), name: name.parse()? }),
            None => Ok(Self { namespace: None, name: text.parse()? }),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

text_type!(Reference, "reference", "Name, or NAMESPACE/NAME in another namespace", "shop/red");

/// Key of a label: 1 to 63 of `A-Z a-z 0-9 - _ . /`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(String);

/// Value of a label: up to 63 of `A-Z a-z 0-9 - _ .`; may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue(String);

fn label_text(text: &str, also: &[u8]) -> bool {
    text.len() <= MOST && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
}

impl FromStr for LabelKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || !label_text(text, b"-_./") {
            return Err(format!(
                "{} is not the key of a label: use 1 to {MOST} letters, digits, '-', '_', '.' and '/'",
                quoted(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for LabelValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !label_text(text, b"-_.") {
            return Err(format!(
                "{} is not the value of a label: use up to {MOST} letters, digits, '-', '_' and '.'",
                quoted(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LabelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_type!(LabelKey, "label-key", "Key of a label: letters, digits, '-', '_', '.' and '/'", "tier");
text_type!(LabelValue, "label-value", "Value of a label: letters, digits, '-', '_' and '.'", "web");

/// Labels of an object.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// The schema of [`Labels`], which says what keys look like too.
pub(crate) fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": {"format": "label-key"},
        "additionalProperties": {"type": "string", "format": "label-value"},
    })
}

/// Name of a gateway's port: 1 to 63 of `A-Z a-z 0-9 . _ - /`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(String);

impl PortName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || !label_text(text, b"-_./") {
            return Err(format!(
                "{} is not the name of a port: use 1 to {MOST} letters, digits, '.', '_', '-' and '/'",
                quoted(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_type!(PortName, "port-name", "Name of a gateway's port", "tenants0");

/// Selects objects by their labels: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    pub match_labels: Labels,
    /// Conditions on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// Key of the label.
    pub key: LabelKey,
    /// What must be true of it.
    pub operator: Operator,
    /// For In and NotIn: the values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<LabelValue>,
}

/// What must be true of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// It is there, with one of the values.
    In,
    /// It is not there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether nothing is asked for, which would select everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let among = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => among,
            Operator::NotIn => !among,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A text from outside, short enough for a sentence.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    if text.chars().count() > SHOWN {
        format!("{:?}...", text.chars().take(SHOWN).collect::<String>())
    } else {
        format!("{text:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_gateway_takes_too() {
        for good in ["a", "red", "red-1", "r.1", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Red", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_ask_for_all_their_conditions() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(k, v)| (k.parse().expect("key"), v.parse().expect("value"))).collect()
        };
        let selector: Selector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"tier": "web"},
            "matchExpressions": [
                {"key": "site", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "zone", "operator": "NotIn", "values": ["x"]},
            ],
        }))
        .expect("a selector");
        assert!(selector.selects(&labels(&[("tier", "web"), ("site", "a")])));
        assert!(selector.selects(&labels(&[("tier", "web"), ("site", "b"), ("zone", "y")])));
        assert!(!selector.selects(&labels(&[("tier", "db"), ("site", "a")])));
        assert!(!selector.selects(&labels(&[("tier", "web")])));
        assert!(!selector.selects(&labels(&[("tier", "web"), ("site", "a"), ("old", "")])));
        assert!(!selector.selects(&labels(&[("tier", "web"), ("site", "a"), ("zone", "x")])));
    }
}
