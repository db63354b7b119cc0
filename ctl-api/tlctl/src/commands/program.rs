//! `apply` and `delete`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use tieline_proto::v1::operation::Operation as Change;
use tieline_proto::v1::{GetRequest, ListControllersRequest, ObjectKey, ObjectState, Operation, object_key};
use tonic::Code;

use super::preview;
use crate::cli::{Apply, Delete};
use crate::client::{Connection, Target, ask};
use crate::error::{Error, Exit};
use crate::friendly::documents;
use crate::kind::{display_key, key_of};
use crate::output;
use crate::program::{self, Fate, MOST_OPERATIONS, Mode, Observer, operation};
use crate::render::program::{self as render, Summary, Verb};

/// How long it may take before progress is shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the devices of all ports may take to open.
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);
/// How often they are looked at.
const DEVICE_PAUSE: Duration = Duration::from_millis(50);

/// Declares the objects in files, or says what that would do.
pub async fn apply(target: &Target, args: &Apply) -> Result<Exit, Error> {
    let objects = documents::read_files(&args.files)?;
    let ports: Vec<ObjectKey> = objects.iter().filter_map(key_of).filter(is_port).collect();
    let operations: Vec<_> = objects.into_iter().map(|object| operation(Change::Apply(object))).collect();
    let mode = match args.atomic {
        true => Mode::Atomic { require_references: args.require_references },
        false => Mode::Each,
    };
    let controller = &args.by.controller;
    if args.dry_run {
        return preview::dry_run(target, controller, mode, operations, args.format).await;
    }
    if args.atomic {
        fits_one_batch(operations.len())?;
    }
    let mut report = Report::new(Verb::Applied);
    if !operations.is_empty() {
        let connection = target.connect().await?;
        report.run(&connection, controller, operations, mode).await?;
        report.devices(&connection, ports).await?;
    }
    report.end()
}

fn is_port(key: &ObjectKey) -> bool {
    matches!(key.kind, Some(object_key::Kind::Port(_)))
}

/// What stands and falls together has to fit into one batch.
pub fn fits_one_batch(operations: usize) -> Result<(), Error> {
    if operations <= MOST_OPERATIONS {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "there are {operations} objects, and at most {MOST_OPERATIONS} can be looked at together: \
         give fewer files, or apply them without --atomic"
    )))
}

/// Withdraws the objects in files, or those that the arguments name.
pub async fn delete(target: &Target, args: &Delete) -> Result<Exit, Error> {
    let keys: Vec<ObjectKey> = match args.kind {
        Some(kind) => kind.parse_keys(&args.keys)?,
        None => {
            let objects = documents::read_files(&args.files)?;
            // What refers to something goes before it, when the file declares
            // things in the order of their use.
            objects.iter().rev().filter_map(key_of).collect()
        }
    };
    let mut report = Report::new(Verb::Deleted);
    if !keys.is_empty() {
        let connection = target.connect().await?;
        let operations = keys.iter().cloned().map(|key| operation(Change::Delete(key))).collect();
        report.run(&connection, &args.by.controller, operations, Mode::Each).await?;
        report.still_held(&connection, &args.by.controller, keys).await?;
    }
    report.end()
}

/// Prints a line for each object as it settles. The work goes on when the
/// output cannot be written.
struct Report {
    summary: Summary,
    progress: ProgressLine,
    failure: Option<io::Error>,
    /// Why a restart of the daemon might not bring back what was done.
    not_stored: Option<String>,
}

impl Report {
    fn new(verb: Verb) -> Self {
        Self { summary: Summary::new(verb), progress: ProgressLine::new(), failure: None, not_stored: None }
    }

    async fn run(
        &mut self,
        connection: &Connection,
        controller: &str,
        operations: Vec<Operation>,
        mode: Mode,
    ) -> Result<(), Error> {
        let outcome = program::run(&mut connection.control(), controller, operations, mode, self).await;
        self.progress.erase();
        outcome
    }

    /// Waits until the devices of ports are open, and says which are not.
    async fn devices(&mut self, connection: &Connection, ports: Vec<ObjectKey>) -> Result<(), Error> {
        let mut client = connection.control();
        let deadline = Instant::now() + DEVICE_PATIENCE;
        for key in ports {
            let name = display_key(&key);
            loop {
                let request = GetRequest { key: Some(key.clone()), controller: String::new() };
                let status = match client.get(request).await {
                    Ok(reply) => reply.into_inner().item.and_then(|item| item.status).unwrap_or_default(),
                    // It was refused, or is withdrawn again.
                    Err(status) if status.code() == Code::NotFound => break,
                    Err(status) => return Err(Error::from_status(&status, &format!("read {name}"))),
                };
                match status.state() {
                    ObjectState::Pending if Instant::now() < deadline => {
                        tokio::time::sleep(DEVICE_PAUSE).await;
                        continue;
                    }
                    ObjectState::Pending | ObjectState::Degraded => {
                        let line = self.summary.count_degraded(&name, &status.message);
                        self.line(&line);
                    }
                    ObjectState::Ready | ObjectState::Waiting | ObjectState::Unspecified => {}
                }
                break;
            }
        }
        Ok(())
    }

    /// Says which of these are there still, because others hold them.
    async fn still_held(
        &mut self,
        connection: &Connection,
        controller: &str,
        keys: Vec<ObjectKey>,
    ) -> Result<(), Error> {
        let mut client = connection.control();
        let request = ListControllersRequest {};
        let all = ask("read the controllers", client.list_controllers(request)).await?.controllers;
        if !all.iter().any(|other| other.held > 0 && other.name != controller) {
            return Ok(());
        }
        for key in keys {
            let name = display_key(&key);
            let request = GetRequest { key: Some(key), controller: String::new() };
            let item = match client.get(request).await {
                Ok(reply) => reply.into_inner().item,
                // Not there, or no key of an object: nobody can hold it.
                Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => None,
                Err(status) => return Err(Error::from_status(&status, &format!("read {name}"))),
            };
            if let Some(item) = item.filter(|item| !item.holders.is_empty()) {
                let line = self.summary.count_held(&name, &item.holders);
                self.line(&line);
            }
        }
        Ok(())
    }

    /// The closing line, and how the command ends.
    fn end(mut self) -> Result<Exit, Error> {
        self.line(&self.summary.to_string());
        if let Some(why) = self.not_stored.as_ref().filter(|_| self.summary.changed_something()) {
            eprintln!("tlctl: {}", render::not_stored(why));
        }
        match self.failure {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ if self.summary.refused > 0 => Ok(Exit::Refused),
            _ => Ok(Exit::Success),
        }
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

    fn not_stored(&mut self, why: &str) {
        self.not_stored = Some(why.to_owned());
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
