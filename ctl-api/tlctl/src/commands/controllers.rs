//! `controllers` and `forget`: who declares here.

use serde_json::Value;
use tieline_proto::v1::{ForgetControllerRequest, ListControllersRequest};

use super::print_value;
use crate::cli::{Forget, Format};
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::encode;
use crate::output;
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

/// Forgets a controller that is away.
pub async fn forget(target: &Target, args: &Forget) -> Result<Exit, Error> {
    let mut client = target.connect().await?.control();
    let Forget { controller, withdraw } = args;
    let request = ForgetControllerRequest { controller: controller.clone(), withdraw: *withdraw };
    let what = format!("forget controller {controller}");
    let withdrawn = ask(&what, client.forget_controller(request)).await?.withdrawn;
    output::print(&render::forgotten(controller, withdrawn))?;
    Ok(Exit::Success)
}
