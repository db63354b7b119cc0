//! The JSON schema (2020-12) of each kind: printed for editors and other
//! programs, and what files are checked against.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::{API_VERSION, Metadata};

static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> =
    LazyLock::new(|| Kind::ALL.iter().map(|kind| (*kind, make(*kind))).collect());

/// The schema of a kind's documents.
pub fn of(kind: Kind) -> &'static Value {
    &SCHEMAS[&kind]
}

fn make(kind: Kind) -> Value {
    let mut generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let metadata = generator.subschema_for::<Metadata>();
    let spec = kind.spec_schema(&mut generator);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.name(),
        "description": kind.summary(),
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind.name()},
            "metadata": metadata,
            "spec": spec,
        },
        "$defs": generator.take_definitions(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`super::super::fields`] reads in a schema.
    const UNDERSTOOD: &[&str] = &[
        "$ref",
        "type",
        "const",
        "enum",
        "oneOf",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
        "items",
        "format",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        // For people and other programs.
        "$schema",
        "$defs",
        "title",
        "description",
        "default",
        "examples",
    ];

    fn visit(schema: &Value, path: &str) {
        let Value::Object(map) = schema else { return };
        for (key, value) in map {
            assert!(UNDERSTOOD.contains(&key.as_str()), "{path}: {key} is not understood");
            match (key.as_str(), value) {
                ("properties" | "$defs", Value::Object(inner)) => {
                    inner.iter().for_each(|(name, schema)| visit(schema, &format!("{path}/{name}")));
                }
                ("oneOf" | "anyOf", Value::Array(inner)) => inner.iter().for_each(|one| visit(one, path)),
                ("items" | "additionalProperties" | "propertyNames", inner) => visit(inner, path),
                _ => {}
            }
        }
    }

    #[test]
    fn all_that_schemas_say_is_checked() {
        for kind in Kind::ALL {
            visit(of(*kind), kind.name());
        }
    }

    #[test]
    fn every_field_is_described() {
        fn visit(schema: &Value, path: &str) {
            let Some(properties) = schema["properties"].as_object() else { return };
            for (name, property) in properties {
                let described = property.get("description").is_some() || property.get("const").is_some();
                assert!(described || property.get("$ref").is_some(), "{path}.{name}: {property}");
            }
        }
        for kind in Kind::ALL {
            for (name, schema) in of(*kind)["$defs"].as_object().expect("definitions") {
                visit(schema, name);
            }
        }
    }
}
