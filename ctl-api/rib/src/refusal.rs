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
        let (field, message) =
            (shortened(refusal.field, LONGEST_FIELD), shortened(refusal.message, LONGEST_MESSAGE));
        Self { code: refusal.code.into(), field, message, limit }
    }
}

/// Longest path of a field that is sent, bytes.
const LONGEST_FIELD: usize = 128;
/// Longest sentence that is sent, bytes: it quotes what was declared.
const LONGEST_MESSAGE: usize = 768;

/// A text that is no longer than that, with its beginning and its end: sentences
/// end with what would be right.
fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    const GAP: &str = " ... ";
    let half = (most - GAP.len()) / 2;
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let start = (0..=half).rev().find(boundary).unwrap_or(0);
    let end = (text.len() - half..=text.len()).find(boundary).unwrap_or(text.len());
    format!("{}{GAP}{}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_short_whatever_is_quoted() {
        for quoted in ["x".repeat(1 << 20), "\u{1f980}".repeat(1 << 18), "é".repeat(400)] {
            let refusal = Refusal::invalid(quoted.clone(), format!("{quoted} is no name: use letters"));
            let sent = v1::Refused::from(refusal);
            assert!(sent.field.len() <= LONGEST_FIELD && sent.message.len() <= LONGEST_MESSAGE);
            assert!(sent.message.ends_with("is no name: use letters"), "{}", sent.message);
        }
        let sent = v1::Refused::from(Refusal::invalid("vrf", "is short"));
        assert_eq!((sent.field.as_str(), sent.message.as_str()), ("vrf", "is short"));
    }
}
