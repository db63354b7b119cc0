//! What one intent has that another has not: objects added, removed, and
//! changed field by field.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{Intent, Object, ObjectKey};

/// The difference of two intents, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Objects that differ.
    pub objects: Vec<ObjectDifference>,
}

/// How one object differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectDifference {
    /// Which object.
    pub object: ObjectKey,
    /// Added, changed or removed.
    pub change: Change,
    /// The fields that differ, of a changed object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDifference>,
}

/// How one field differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Path of the field, such as `spec.subnets[1].prefix`.
    pub field: String,
    /// What it was; null if it was not there.
    pub before: Value,
    /// What it is; null if it is not there.
    pub after: Value,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there.
    Added,
    /// It says something else.
    Changed,
    /// It is there no more.
    Removed,
}

impl Difference {
    /// From one intent to another.
    pub fn between(before: &Intent, after: &Intent) -> Self {
        let mut objects = Vec::new();
        for (key, old) in before.objects() {
            match after.object(key) {
                None => objects.push(ObjectDifference::whole(key, Change::Removed)),
                Some(new) if new != old => objects.push(ObjectDifference::changed(key, old, new)),
                Some(_) => {}
            }
        }
        let added = after.objects().filter(|(key, _)| before.object(key).is_none());
        objects.extend(added.map(|(key, _)| ObjectDifference::whole(key, Change::Added)));
        objects.sort_by(|a, b| a.object.cmp(&b.object));
        Self { objects }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn count(&self, change: Change) -> usize {
        self.objects.iter().filter(|object| object.change == change).count()
    }

    /// The counts, for a sentence.
    pub fn summary(&self) -> String {
        if self.is_empty() {
            return "no object would change".to_owned();
        }
        format!(
            "{} to add, {} to change, {} to remove",
            self.count(Change::Added),
            self.count(Change::Changed),
            self.count(Change::Removed)
        )
    }
}

impl ObjectDifference {
    fn whole(key: &ObjectKey, change: Change) -> Self {
        Self { object: key.clone(), change, fields: Vec::new() }
    }

    fn changed(key: &ObjectKey, old: &Object, new: &Object) -> Self {
        let mut fields = Vec::new();
        compare("", &old.to_shown_document(key), &new.to_shown_document(key), &mut fields);
        if fields.is_empty() {
            // What differs is not shown.
            let hidden = |text: &str| Value::String(text.to_owned());
            fields.push(FieldDifference {
                field: "spec.password".to_owned(),
                before: hidden("(hidden)"),
                after: hidden("(hidden, another)"),
            });
        }
        Self { object: key.clone(), change: Change::Changed, fields }
    }
}

fn compare(path: &str, before: &Value, after: &Value, fields: &mut Vec<FieldDifference>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            for (key, value) in old {
                compare(&join(key), value, new.get(key).unwrap_or(&Value::Null), fields);
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                compare(&join(key), &Value::Null, value, fields);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                let item = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                compare(&format!("{path}[{index}]"), &item(old), &item(new), fields);
            }
        }
        _ if before != after => fields.push(FieldDifference {
            field: path.to_owned(),
            before: before.clone(),
            after: after.clone(),
        }),
        _ => {}
    }
}

/// For eyes: `+` added, `~` changed with its fields, `-` removed.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            let mark = match object.change {
                Change::Added => '+',
                Change::Changed => '~',
                Change::Removed => '-',
            };
            writeln!(f, "{mark} {}", object.object)?;
            for field in &object.fields {
                match (&field.before, &field.after) {
                    (Value::Null, after) => writeln!(f, "  + {}: {}", field.field, shown(after))?,
                    (before, Value::Null) => writeln!(f, "  - {}: {}", field.field, shown(before))?,
                    (before, after) => {
                        writeln!(f, "  ~ {}: {} -> {}", field.field, shown(before), shown(after))?;
                    }
                }
            }
        }
        writeln!(f, "{}", self.summary())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::testing::{CLUSTERS, intent};

    fn network(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    }

    fn peer(password: &str) -> String {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: w}}\n\
             spec: {{cluster: east, address: 198.18.1.11, asn: 64513, families: [evpn], password: {password}}}\n"
        )
    }

    #[test]
    fn objects_and_fields_that_differ_are_shown() {
        let before = intent(&format!(
            "{CLUSTERS}{}{}",
            network("red", "{cluster: east, subnets: [{prefix: 10.1.0.0/24}], vni: 7}"),
            network("old", "{cluster: east}")
        ));
        let after = intent(&format!(
            "{CLUSTERS}{}{}",
            network("red", "{cluster: east, subnets: [{prefix: 10.2.0.0/24}], isolated: true}"),
            network("new", "{cluster: east, isolated: false}")
        ));
        let difference = Difference::between(&before, &after);
        assert_eq!(
            difference.to_string(),
            "+ VirtualNetwork/default/new\n\
             - VirtualNetwork/default/old\n\
             ~ VirtualNetwork/default/red\n\
             \x20 ~ spec.subnets[0].prefix: 10.1.0.0/24 -> 10.2.0.0/24\n\
             \x20 - spec.vni: 7\n\
             \x20 + spec.isolated: true\n\
             1 to add, 1 to change, 1 to remove\n"
        );
        let json = serde_json::to_value(&difference).expect("JSON");
        assert_eq!(
            json["objects"][0],
            serde_json::json!({"object": "VirtualNetwork/default/new", "change": "added"})
        );
        assert_eq!(json["objects"][2]["fields"][0]["after"], "10.2.0.0/24");
        assert!(Difference::between(&after, &after).is_empty());
    }

    #[test]
    fn passwords_are_never_shown() {
        let before = intent(&format!("{CLUSTERS}{}", peer("swordfish")));
        let after = intent(&format!("{CLUSTERS}{}", peer("sesame")));
        let difference = Difference::between(&before, &after);
        let text = format!("{difference}{difference:?}{before:?}");
        assert!(text.contains("~ spec.password: (hidden) -> (hidden, another)"), "{text}");
        assert!(!text.contains("swordfish") && !text.contains("sesame"), "{text}");
    }
}
