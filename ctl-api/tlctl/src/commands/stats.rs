//! `stats`: counters and rates, once or again and again.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tieline_proto::v1::operations_client::OperationsClient;
use tieline_proto::v1::{GetStatsReply, GetStatsRequest};
use tonic::transport::Channel;

use super::{print_value, stages};
use crate::cli::{Format, Stats, StatsOf};
use crate::client::{Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::encode;
use crate::output;
use crate::render::stats::{History, Screen, stats as render};

/// Between the two samples that the first rates are made of.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const CLEAR_SCREEN: &str = "\x1b[2J";
const CURSOR_HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows the counters.
pub async fn stats(target: &Target, args: &Stats) -> Result<Exit, Error> {
    if let Some(StatsOf::Stages(args)) = &args.of {
        return stages::stages(target, args).await;
    }
    let mut client = target.connect().await?.operations();
    match (args.watch, args.output.format) {
        (None, Format::Table) => {
            let before = sample(&mut client).await?;
            tokio::time::sleep(FIRST_INTERVAL).await;
            let now = sample(&mut client).await?;
            output::print(&render(&before, &now, None, None))?;
            Ok(Exit::Success)
        }
        (None, format) => {
            let now = sample(&mut client).await?;
            print_value(format, || encode::reply(&now), String::new)
        }
        (Some(seconds), Format::Table) => {
            watch_tables(&mut client, Duration::from_secs_f64(seconds), args.count).await
        }
        (Some(seconds), format) => {
            watch_values(&mut client, Duration::from_secs_f64(seconds), args.count, format).await
        }
    }
}

async fn sample(client: &mut OperationsClient<Channel>) -> Result<GetStatsReply, Error> {
    ask("read the statistics", client.get_stats(GetStatsRequest {})).await
}

/// Draws each table over the one before on a terminal, else prints one below
/// the other.
async fn watch_tables(
    client: &mut OperationsClient<Channel>,
    interval: Duration,
    count: Option<u64>,
) -> Result<Exit, Error> {
    let terminal = io::stdout().is_terminal();
    let mut history = History::default();
    let mut before = sample(client).await?;
    tokio::time::sleep(FIRST_INTERVAL.min(interval)).await;
    if terminal {
        output::print(CLEAR_SCREEN)?;
    }
    let mut frames = 0;
    loop {
        let now = sample(client).await?;
        history.push(&before, &now);
        // Asked for every time: the window may have been resized.
        let screen = crossterm::terminal::size()
            .ok()
            .filter(|_| terminal)
            .map(|(columns, rows)| Screen { columns: columns.into(), rows: rows.into() });
        let frame = render(&before, &now, Some(&history), screen);
        output::print(&if terminal { over(&frame) } else { format!("{frame}\n") })?;
        frames += 1;
        if count.is_some_and(|count| frames >= count) {
            return Ok(Exit::Success);
        }
        before = now;
        tokio::time::sleep(interval).await;
    }
}

/// A frame that is drawn over the one before.
fn over(frame: &str) -> String {
    let lines: Vec<String> = frame.lines().map(|line| format!("{line}{CLEAR_LINE}\r\n")).collect();
    format!("{CURSOR_HOME}{}{CLEAR_BELOW}", lines.concat())
}

/// One line of JSON, or one YAML document, for each sample.
async fn watch_values(
    client: &mut OperationsClient<Channel>,
    interval: Duration,
    count: Option<u64>,
    format: Format,
) -> Result<Exit, Error> {
    let mut samples = 0;
    loop {
        let now = sample(client).await?;
        if format == Format::Json {
            output::print(&format!("{}\n", encode::reply(&now)))?;
        } else {
            output::print("---\n")?;
            print_value(format, || encode::reply(&now), String::new)?;
        }
        samples += 1;
        if count.is_some_and(|count| samples >= count) {
            return Ok(Exit::Success);
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_frame_erases_what_it_does_not_cover() {
        assert_eq!(super::over("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
