//! From what people write to messages. Every error names its field.

use std::fmt;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value as Field,
};
use serde_json::{Map, Value};
use tieline_proto::v1::Object;

use super::{HOLDERS, PORT_RANGE, PROTOCOL_FIELDS, PROTOCOLS, STATUS, enum_prefix, short_name};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `vrf.import_route_targets[1]`; may be empty.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

impl FieldError {
    fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    /// The same error, seen from the message that holds `field`.
    fn within(mut self, field: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{dot}{}", self.path);
        self
    }
}

/// Reads one object.
pub fn object(value: &Value) -> Result<Object, FieldError> {
    let descriptor = Object::default().descriptor();
    let Value::Object(map) = value else {
        return Err(FieldError::new(format!(
            "must be an object such as `vrf: {{name: red}}`, not {}",
            name_of(value)
        )));
    };
    let message =
        message(&descriptor, map.iter().filter(|(key, _)| ![STATUS, HOLDERS].contains(&key.as_str())))?;
    let object: Object = message
        .transcode_to()
        .map_err(|error| FieldError::new(format!("does not fit the API of this tlctl: {error}")))?;
    if object.kind.is_none() {
        let problem = format!("holds no object; it must have one of {}", field_names(&descriptor));
        return Err(FieldError::new(problem));
    }
    Ok(object)
}

fn message<'a>(
    descriptor: &MessageDescriptor,
    members: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Result<DynamicMessage, FieldError> {
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen: Vec<FieldDescriptor> = Vec::new();
    for (name, value) in members {
        let field = descriptor
            .get_field_by_name(name)
            .or_else(|| descriptor.get_field_by_json_name(name))
            .ok_or_else(|| unknown_field(descriptor, name))?;
        // The canonical mapping reads null as absent; a message without fields
        // has nothing else to say than that it is there.
        let value = match (value, field.kind()) {
            (Value::Null, Kind::Message(inner)) if inner.fields().len() == 0 => &Value::Object(Map::new()),
            (Value::Null, _) => continue,
            _ => value,
        };
        check_not_set(&seen, &field).map_err(|error| error.within(name))?;
        let decoded = member(&field, value).map_err(|error| error.within(name))?;
        message.set_field(&field, decoded);
        seen.push(field);
    }
    Ok(message)
}

fn unknown_field(descriptor: &MessageDescriptor, name: &str) -> FieldError {
    let known = field_names(descriptor);
    let problem = if known.is_empty() {
        "no such field; nothing can be given here".to_owned()
    } else {
        format!("no such field; there are {known}")
    };
    FieldError::new(problem).within(name)
}

fn field_names(descriptor: &MessageDescriptor) -> String {
    descriptor.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>().join(", ")
}

/// Refuses a field that is given twice, and a second field of a choice.
fn check_not_set(seen: &[FieldDescriptor], field: &FieldDescriptor) -> Result<(), FieldError> {
    for other in seen {
        if other == field {
            return Err(FieldError::new(format!("is given twice, also as {}", field.json_name())));
        }
        if field.containing_oneof().is_some() && other.containing_oneof() == field.containing_oneof() {
            return Err(FieldError::new(format!("cannot be given together with {}", other.name())));
        }
    }
    Ok(())
}

fn member(field: &FieldDescriptor, value: &Value) -> Result<Field, FieldError> {
    if !field.is_list() {
        return single(field, value);
    }
    let Value::Array(items) = value else {
        return Err(FieldError::new(format!("must be a list, such as [a, b], not {}", name_of(value))));
    };
    let items = items
        .iter()
        .enumerate()
        .map(|(index, item)| single(field, item).map_err(|error| error.within(&format!("[{index}]"))));
    Ok(Field::List(items.collect::<Result<_, _>>()?))
}

fn single(field: &FieldDescriptor, value: &Value) -> Result<Field, FieldError> {
    if PROTOCOL_FIELDS.contains(&field.full_name()) {
        return protocol(value).map(Field::U32);
    }
    match (field.kind(), value) {
        (Kind::String, Value::String(text)) => Ok(Field::String(text.clone())),
        (Kind::String, Value::Number(number)) => {
            Err(FieldError::new(format!("must be text, but {number} reads as a number: put it in quotes")))
        }
        (Kind::String, Value::Bool(value)) => {
            Err(FieldError::new(format!("must be text, but this word reads as {value}: put it in quotes")))
        }
        (Kind::Bool, Value::Bool(value)) => Ok(Field::Bool(*value)),
        (Kind::Bool, _) => Err(FieldError::new(format!("must be true or false, not {}", name_of(value)))),
        (Kind::Uint32, _) => whole_number(value).map(Field::U32),
        (Kind::Enum(descriptor), _) => enum_value(&descriptor, value).map(Field::EnumNumber),
        (Kind::Message(descriptor), _) if descriptor.full_name() == PORT_RANGE => {
            port_range(&descriptor, value).map(Field::Message)
        }
        (Kind::Message(descriptor), Value::Object(map)) => {
            message(&descriptor, map.iter()).map(Field::Message)
        }
        (Kind::Message(descriptor), _) => Err(FieldError::new(format!(
            "must be a mapping of {}, not {}",
            field_names(&descriptor),
            name_of(value)
        ))),
        // No object has a field of another type; a test says so.
        (kind, _) => Err(FieldError::new(format!("must be {kind:?}, not {}", name_of(value)))),
    }
}

/// A number, or as the canonical mapping allows a text of digits.
fn whole_number(value: &Value) -> Result<u32, FieldError> {
    let number = match value {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| {
        FieldError::new(format!("must be a whole number from 0 to {}, not {}", u32::MAX, name_of(value)))
    })
}

fn protocol(value: &Value) -> Result<u32, FieldError> {
    if let Value::String(text) = value
        && let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name))
    {
        return Ok(*number);
    }
    whole_number(value).map_err(|_| {
        let names = PROTOCOLS.map(|(name, _)| name).join(", ");
        FieldError::new(format!("must be {names} or an IP protocol number, not {}", name_of(value)))
    })
}

fn enum_value(descriptor: &EnumDescriptor, value: &Value) -> Result<i32, FieldError> {
    let prefix = enum_prefix(descriptor);
    let known = match value {
        Value::String(text) => {
            let wanted = short_name(&prefix, &text.to_ascii_uppercase().replace('-', "_"));
            descriptor
                .values()
                .find(|value| short_name(&prefix, value.name()) == wanted)
                .map(|value| value.number())
        }
        // The canonical mapping allows numbers, also those of a newer API.
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        _ => None,
    };
    known.ok_or_else(|| {
        let names: Vec<String> = descriptor
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| short_name(&prefix, value.name()))
            .collect();
        FieldError::new(format!("must be one of {}, not {}", names.join(", "), name_of(value)))
    })
}

/// `80`, `"8000-8010"`, or the message `{first: 8000, last: 8010}`.
fn port_range(descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, FieldError> {
    let bounds = match value {
        Value::Object(map) => return message(descriptor, map.iter()),
        Value::String(text) => match text.split_once('-') {
            Some((first, last)) => first.trim().parse().ok().zip(last.trim().parse().ok()),
            None => text.trim().parse().ok().map(|port| (port, port)),
        },
        _ => whole_number(value).ok().map(|port| (port, port)),
    };
    let (first, last): (u32, u32) = bounds.ok_or_else(|| {
        FieldError::new(format!("must be a port or a range such as 8000-8010, not {}", name_of(value)))
    })?;
    let mut range = DynamicMessage::new(descriptor.clone());
    range.set_field_by_name("first", Field::U32(first));
    range.set_field_by_name("last", Field::U32(last));
    Ok(range)
}

/// What was written instead, short enough for a sentence.
fn name_of(value: &Value) -> String {
    const MOST: usize = 40;
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::String(text) if text.chars().count() > MOST => {
            format!("{:?}...", text.chars().take(MOST).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
