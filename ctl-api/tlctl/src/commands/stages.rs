//! `stats stages`: where the workers' cycles go.

use std::time::Duration;

use tieline_proto::v1::operations_client::OperationsClient;
use tieline_proto::v1::{GetStageStatsReply, GetStageStatsRequest};
use tonic::transport::Channel;

use super::print_value;
use crate::cli::Stages;
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::encode;
use crate::render::stages as render;

/// Shows the cycles of each stage, over an interval or since the start.
pub async fn stages(target: &Target, args: &Stages) -> Result<Exit, Error> {
    let mut client = target.connect().await?.operations();
    let mut shown = if args.total {
        sample(&mut client).await?
    } else {
        let before = sample(&mut client).await?;
        tokio::time::sleep(Duration::from_secs_f64(args.interval)).await;
        render::between(&before, sample(&mut client).await?)
    };
    if let Some(wanted) = args.worker {
        let count = shown.workers.len();
        shown.workers.retain(|worker| worker.worker == wanted);
        if shown.workers.is_empty() {
            return Err(Error::NotFound(format!(
                "there is no worker {wanted}: the daemon has {count}, numbered from 0"
            )));
        }
    }
    print_value(args.output.format, || encode::reply(&shown), || render::stages(&shown))
}

async fn sample(client: &mut OperationsClient<Channel>) -> Result<GetStageStatsReply, Error> {
    ask("read the cycles of the stages", client.get_stage_stats(GetStageStatsRequest {})).await
}
