//! From messages to the form that people read.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value as Field};
use serde_json::{Map, Value, json};
use tieline_proto::v1::{ObjectKey, ObjectWithStatus};

use super::{HOLDERS, OBJECT_KEY, PORT_RANGE, PROTOCOL_FIELDS, STATUS, enum_prefix, protocol, short_name};
use crate::kind::display_key;

/// Which fields to write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    /// Those that differ from their default.
    Set,
    /// All, except absent messages and absent optional fields.
    All,
}

/// A message, with the fields that are set.
pub fn object(object: &impl ReflectMessage) -> Value {
    message(&object.transcode_to_dynamic(), Fields::Set)
}

/// A reply, with all fields, so that a zero is seen as a zero.
pub fn reply(reply: &impl ReflectMessage) -> Value {
    message(&reply.transcode_to_dynamic(), Fields::All)
}

/// An object with its status and its holders as further members.
pub fn object_with_status(item: &ObjectWithStatus) -> Value {
    let mut document = match item.object.as_ref().map(object) {
        Some(Value::Object(document)) => document,
        _ => Map::new(),
    };
    if let Some(status) = &item.status {
        document.insert(STATUS.to_owned(), object(status));
    }
    if !item.holders.is_empty() {
        document.insert(HOLDERS.to_owned(), item.holders.iter().map(object).collect());
    }
    Value::Object(document)
}

fn message(message: &DynamicMessage, fields: Fields) -> Value {
    let descriptor = message.descriptor();
    if descriptor.full_name() == PORT_RANGE {
        return port_range(message);
    }
    if descriptor.full_name() == OBJECT_KEY {
        return message.transcode_to().map_or(Value::Null, |key: ObjectKey| Value::from(display_key(&key)));
    }
    let mut map = Map::new();
    for field in descriptor.fields() {
        let shown = message.has_field(&field) || (fields == Fields::All && !field.supports_presence());
        if shown {
            let value = member(&field, &message.get_field(&field), fields);
            map.insert(field.name().to_owned(), value);
        }
    }
    Value::Object(map)
}

fn member(field: &FieldDescriptor, value: &Field, fields: Fields) -> Value {
    if PROTOCOL_FIELDS.contains(&field.full_name())
        && let Field::U32(number) = value
    {
        let name = protocol(*number);
        return if name.starts_with(|c: char| c.is_ascii_digit()) {
            Value::from(*number)
        } else {
            Value::from(name)
        };
    }
    match value {
        Field::List(items) => items.iter().map(|item| single(field, item, fields)).collect(),
        _ => single(field, value, fields),
    }
}

fn single(field: &FieldDescriptor, value: &Field, fields: Fields) -> Value {
    match value {
        Field::Bool(value) => Value::from(*value),
        Field::I32(value) => Value::from(*value),
        Field::I64(value) => Value::from(*value),
        Field::U32(value) => Value::from(*value),
        Field::U64(value) => Value::from(*value),
        Field::F32(value) => Value::from(*value),
        Field::F64(value) => Value::from(*value),
        Field::String(value) => Value::from(value.as_str()),
        Field::EnumNumber(number) => match field.kind() {
            Kind::Enum(descriptor) => enum_value(&descriptor, *number),
            _ => Value::from(*number),
        },
        Field::Message(inner) => message(inner, fields),
        Field::Bytes(bytes) => {
            Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        // The API has no maps; a test says so.
        Field::Map(_) | Field::List(_) => Value::Null,
    }
}

fn enum_value(descriptor: &prost_reflect::EnumDescriptor, number: i32) -> Value {
    match descriptor.get_value(number) {
        Some(value) => Value::from(short_name(&enum_prefix(descriptor), value.name())),
        None => Value::from(number),
    }
}

fn port_range(message: &DynamicMessage) -> Value {
    let bound =
        |name: &str| message.get_field_by_name(name).and_then(|value| value.as_u32()).unwrap_or_default();
    let (first, last) = (bound("first"), bound("last"));
    if first == last { json!(first) } else { json!(format!("{first}-{last}")) }
}
