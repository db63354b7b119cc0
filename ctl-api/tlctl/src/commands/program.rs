//! `apply` and `delete`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use tieline_proto::v1::program_request::Operation;

use crate::cli::{Apply, Delete};
use crate::client::Target;
use crate::error::{Error, Exit};
use crate::friendly::documents;
use crate::kind::key_of;
use crate::output;
use crate::program::{self, Fate, Observer};
use crate::render::program::{Summary, Verb};

/// How long it may take before progress is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// Declares the objects in files.
pub async fn apply(target: &Target, args: &Apply) -> Result<Exit, Error> {
    let objects = documents::read_files(&args.files)?;
    run(target, objects.into_iter().map(Operation::Apply).collect(), Verb::Applied).await
}

/// Withdraws the objects in files, or those that the arguments name.
pub async fn delete(target: &Target, args: &Delete) -> Result<Exit, Error> {
    let keys = match args.kind {
        Some(kind) => kind.parse_keys(&args.keys)?,
        None => {
            let objects = documents::read_files(&args.files)?;
            // What refers to something goes before it, when the file declares
            // things in the order of their use.
            objects.iter().rev().filter_map(key_of).collect()
        }
    };
    run(target, keys.into_iter().map(Operation::Delete).collect(), Verb::Deleted).await
}

async fn run(target: &Target, operations: Vec<Operation>, verb: Verb) -> Result<Exit, Error> {
    let mut report = Report::new(verb);
    if !operations.is_empty() {
        let connection = target.connect().await?;
        let outcome = program::run(&mut connection.control(), operations, &mut report).await;
        report.progress.erase();
        outcome?;
    }
    report.line(&report.summary.to_string());
    match report.failure {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ if report.summary.refused > 0 => Ok(Exit::Refused),
        _ => Ok(Exit::Success),
    }
}

/// Prints a line for each object as it settles. The work goes on when the
/// output cannot be written.
struct Report {
    summary: Summary,
    progress: ProgressLine,
    failure: Option<io::Error>,
}

impl Report {
    fn new(verb: Verb) -> Self {
        Self { summary: Summary::new(verb), progress: ProgressLine::new(), failure: None }
    }

    fn line(&mut self, text: &str) {
        if self.failure.is_none() {
            self.failure = output::print(&format!("{text}\n")).err();
        }
    }
}

impl Observer for Report {
    fn settled(&mut self, name: &str, fate: &Fate) {
        self.progress.erase();
        let line = self.summary.count(name, fate);
        self.line(&line);
    }

    fn tick(&mut self, settled: usize, total: usize) {
        self.progress.draw(settled, total);
    }
}

/// One line on a terminal's standard error that is drawn over itself.
struct ProgressLine {
    started: Instant,
    terminal: bool,
    drawn: bool,
}

impl ProgressLine {
    fn new() -> Self {
        Self { started: Instant::now(), terminal: io::stderr().is_terminal(), drawn: false }
    }

    fn draw(&mut self, settled: usize, total: usize) {
        if self.terminal && self.started.elapsed() > PATIENCE {
            eprint!("\r{settled} of {total} objects\x1b[K");
            self.drawn = true;
        }
    }

    fn erase(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\r\x1b[K");
        }
    }
}
