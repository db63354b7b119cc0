//! `apply --dry-run` and `diff`: what would happen.

use tieline_proto::v1::operation::Operation as Change;
use tieline_proto::v1::{Operation, PreviewReply, PreviewRequest};

use super::print_value;
use super::program::fits_one_batch;
use crate::cli::{Diff, Format};
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::{documents, encode};
use crate::program::{Mode, name_of, operation};
use crate::render::preview as render;

/// Shows what operations would do.
pub async fn dry_run(
    target: &Target,
    controller: &str,
    mode: Mode,
    operations: Vec<Operation>,
    format: Format,
) -> Result<Exit, Error> {
    let reply = preview(target, controller, mode, operations, false, format).await?;
    Ok(if reply.refused.is_empty() { Exit::Success } else { Exit::Refused })
}

/// Shows what would change if files were all that a controller holds.
pub async fn diff(target: &Target, args: &Diff) -> Result<Exit, Error> {
    let objects = documents::read_files(&args.files)?;
    let operations = objects.into_iter().map(|object| operation(Change::Apply(object))).collect();
    let by = &args.by.controller;
    let reply = preview(target, by, Mode::Each, operations, true, args.output.format).await?;
    Ok(if render::changes_nothing(&reply) { Exit::Success } else { Exit::Refused })
}

async fn preview(
    target: &Target,
    controller: &str,
    mode: Mode,
    operations: Vec<Operation>,
    replaces_all: bool,
    format: Format,
) -> Result<PreviewReply, Error> {
    fits_one_batch(operations.len())?;
    let names: Vec<String> = operations.iter().map(name_of).collect();
    let reply = if operations.is_empty() && !replaces_all {
        PreviewReply::default()
    } else {
        let request = PreviewRequest {
            controller: controller.to_owned(),
            batch: Some(mode.batch(1, operations)),
            replaces_all,
        };
        let mut client = target.connect().await?.control();
        ask("preview the objects", client.preview(request)).await?
    };
    print_value(format, || encode::reply(&reply), || render::preview(&reply, &names))?;
    Ok(reply)
}
