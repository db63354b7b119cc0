//! The gRPC services: messages in, questions to the control thread, messages
//! out.
//!
//! - [`control`]: the control service; [`session`], [`preview`], [`watch`]: its
//!   longer parts
//! - [`operations`]: what the running gateway does
//! - [`needs`]: what each method needs of whoever calls it

pub mod control;
pub mod needs;
pub mod operations;
mod preview;
pub mod session;
mod watch;

use tieline_gate::limits::ApiLimits;
use tieline_gate::services::Services;
use tieline_proto::v1::control_server::ControlServer;
use tieline_proto::v1::operations_server::OperationsServer;
use tieline_proto::v1::{self, ErrorCode};
use tieline_rib::Refusal;
use tonic::Status;
use tonic::service::Routes;

use crate::problems::Problems;
use control::ControlService;
use operations::{Facts, OperationsService};
use session::Sessions;

/// All services.
///
/// # Errors
/// When the description of the API makes no sense.
pub async fn services(
    sessions: Sessions,
    facts: Facts,
    problems: Problems,
    limits: &ApiLimits,
) -> anyhow::Result<Services> {
    let operations = OperationsService::new(sessions.control.clone(), facts, problems);
    let operations = OperationsServer::new(operations).max_decoding_message_size(limits.message);
    let control = ControlServer::new(ControlService::new(sessions)).max_decoding_message_size(limits.message);
    let mut routes = Routes::builder();
    routes.add_service(control).add_service(operations);
    let names = &["tieline.v1.Control", "tieline.v1.Operations"];
    Ok(Services::new(routes, names, tieline_proto::DESCRIPTORS).await?)
}

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
