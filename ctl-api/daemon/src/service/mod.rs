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

use tieline_proto::v1::ErrorCode;
use tieline_rib::Refusal;
use tonic::Status;

/// A refusal where there is no place for it in the reply.
fn status(refusal: &Refusal) -> Status {
    match refusal.code {
        ErrorCode::LimitReached => Status::resource_exhausted(refusal.to_string()),
        ErrorCode::Conflict => Status::failed_precondition(refusal.to_string()),
        _ => Status::invalid_argument(refusal.to_string()),
    }
}
