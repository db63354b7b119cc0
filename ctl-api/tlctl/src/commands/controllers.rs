//! `controllers`: who declares here.

use serde_json::Value;
use tieline_proto::v1::ListControllersRequest;

use super::print_value;
use crate::cli::Format;
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::encode;
use crate::render::controllers as render;

/// Shows the controllers that are here or hold something.
pub async fn controllers(target: &Target, format: Format) -> Result<Exit, Error> {
    let mut client = target.connect().await?.control();
    let reply = ask("list the controllers", client.list_controllers(ListControllersRequest {})).await?;
    print_value(
        format,
        || reply.controllers.iter().map(encode::reply).collect::<Value>(),
        || render::controllers(&reply.controllers),
    )
}
