//! Why an operation was refused.

use tieline_proto::v1;

use crate::key::Key;

/// A refused operation. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", field, if field.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// What kind of reason it is.
    pub code: v1::ErrorCode,
    /// Path of the field, such as `interface.local_addresses[1]`; may be
    /// empty.
    pub field: String,
    /// A sentence: what is wrong, and what would be right.
    pub message: String,
    /// The limit that is reached, and its value.
    pub limit: Option<(&'static str, usize)>,
}

impl Refusal {
    /// A field without a valid value.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: v1::ErrorCode::InvalidField, field: field.into(), message: message.into(), limit: None }
    }

    /// A contradiction to another object, which the message names.
    pub fn conflict(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: v1::ErrorCode::Conflict, field: field.into(), message: message.into(), limit: None }
    }

    /// One more `what` than the limit `limit`, whose value is `value`.
    pub fn limit(what: &str, limit: &'static str, value: usize) -> Self {
        Self {
            code: v1::ErrorCode::LimitReached,
            field: String::new(),
            message: format!(
                "the gateway already holds as many {what} as its limit {limit} = {value} allows"
            ),
            limit: Some((limit, value)),
        }
    }

    /// Objects that it refers to and that are not declared.
    pub fn missing(waits_for: &[v1::ObjectKey]) -> Self {
        let names: Vec<String> = waits_for
            .iter()
            .map(|key| Key::parse(key).map_or_else(|_| "an object".to_owned(), |key| key.to_string()))
            .collect();
        Self {
            code: v1::ErrorCode::MissingReference,
            message: format!("not declared: {}; declare them in the same batch or before", names.join(", ")),
            ..Self::invalid("", "")
        }
    }

    /// Something that whoever sends it may not declare.
    pub fn permission(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: v1::ErrorCode::Permission, ..Self::invalid(field, message) }
    }
}

impl From<Refusal> for v1::Refused {
    fn from(refusal: Refusal) -> Self {
        let limit =
            refusal.limit.map(|(name, value)| v1::Limit { name: name.to_owned(), value: value as u64 });
        Self { code: refusal.code.into(), field: refusal.field, message: refusal.message, limit }
    }
}
