//! The gRPC services: messages in, questions to the control thread, messages
//! out.
//!
//! - [`control`]: the control service; [`session`], [`preview`], [`watch`]: its
//!   longer parts
//! - [`operations`]: what the running gateway does

pub mod control;
pub mod operations;
mod preview;
pub mod session;
mod watch;

use tieline_proto::v1::{self, ErrorCode};
use tieline_rib::Refusal;
use tonic::Status;

/// A refusal where there is no place for it in the reply.
fn status(refusal: &Refusal) -> Status {
    // As short as in a reply: it travels in a header.
    let v1::Refused { field, message, .. } = refusal.clone().into();
    let sentence = if field.is_empty() { message } else { format!("{field}: {message}") };
    match refusal.code {
        ErrorCode::LimitReached => Status::resource_exhausted(sentence),
        ErrorCode::Conflict => Status::failed_precondition(sentence),
        _ => Status::invalid_argument(sentence),
    }
}
