//! What the commands do.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tieline_federation::allocation::Circumstances;
use tieline_federation::api::{difference_from, problem_messages};
use tieline_federation::intent::diff::Difference;
use tieline_federation::intent::kinds::Kind;
use tieline_federation::intent::read::{Documents, File, MAX_FILE_BYTES};
use tieline_federation::intent::{ObjectKey, schema};
use tieline_federation::store::state::{self, Request, State};
use tieline_proto::federation::v1;
use tokio_stream::StreamExt as _;

use crate::backend::Backend;
use crate::cli::{Apply, Cli, Command, Connection, Delete, Diff, Format, Get, Validate};
use crate::error::{Error, Exit};
use crate::render;

/// Runs a command.
pub async fn run(cli: Cli) -> Result<Exit, Error> {
    match cli.command {
        Command::Validate(arguments) => validate(&arguments),
        Command::Schema { kind } => show_schema(kind),
        Command::Diff(arguments) => diff(&cli.connection, &arguments).await,
        Command::Apply(arguments) => apply(&cli.connection, &arguments).await,
        Command::Delete(arguments) => delete(&cli.connection, &arguments).await,
        Command::Get(arguments) => get(&cli.connection, &arguments).await,
        Command::Desired { gateway, json } => desired(&cli.connection, gateway.as_deref(), json).await,
        Command::Run(arguments) => crate::serve::run(&cli.connection, arguments).await,
        Command::Status { output } => crate::observe::status(&cli.connection, output.format).await,
        Command::Audit { output } => crate::observe::audit(&cli.connection, output.format).await,
        Command::Events(arguments) => crate::observe::events(&cli.connection, arguments).await,
        Command::Watch { after } => watch(&cli.connection, after).await,
    }
}

/// Writes to standard output.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints a value as JSON or YAML.
pub fn print_value(format: Format, value: &Value) -> Result<(), Error> {
    print(&render::value(format, value).map_err(Error::Refused)?)
}

/// Reads files; of a directory those that end in `.yaml`, `.yml` or `.json`.
fn read_files(names: &[String]) -> Result<Vec<File>, Error> {
    if names.iter().filter(|name| *name == "-").count() > 1 {
        return Err(Error::Usage("standard input (-) can be read only once".to_owned()));
    }
    let mut files = Vec::new();
    for name in names {
        let cannot = |error: io::Error| Error::Usage(format!("cannot read {name}: {error}"));
        if name == "-" {
            let text = read_text(&mut io::stdin().lock()).map_err(cannot)?;
            files.push(File { name: "standard input".to_owned(), text });
        } else if Path::new(name).is_dir() {
            let mut found: Vec<PathBuf> = std::fs::read_dir(name)
                .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
                .map_err(cannot)?;
            let wanted = |path: &PathBuf| {
                path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
            };
            found.retain(wanted);
            found.sort();
            for path in found {
                files.push(read_file(&path).map_err(cannot)?);
            }
        } else {
            files.push(read_file(Path::new(name)).map_err(cannot)?);
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> io::Result<File> {
    let text = read_text(&mut std::fs::File::open(path)?)?;
    Ok(File { name: path.display().to_string(), text })
}

fn read_text(source: &mut impl Read) -> io::Result<String> {
    let mut text = String::new();
    // One more than is allowed: the reader of documents says that it is too large.
    source.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn messages(files: Vec<File>) -> Vec<v1::File> {
    files.into_iter().map(|File { name, text }| v1::File { name, text }).collect()
}

/// Prints problems, one a line or as JSON, and says how it ended.
fn refuse(format: Format, problems: &[v1::Problem]) -> Result<Exit, Error> {
    if format == Format::Table {
        let mut stderr = io::stderr().lock();
        stderr.write_all(render::problems(problems).as_bytes())?;
    } else {
        print_value(format, &json!({"problems": render::problem_values(problems)}))?;
    }
    Ok(Exit::Refused)
}

fn validate(arguments: &Validate) -> Result<Exit, Error> {
    let files = read_files(&arguments.files.files)?;
    let format = arguments.output.format;
    let checked = Documents::read(&files).and_then(|documents| {
        let request = Request { documents, ..Request::default() };
        state::plan(&State::default(), &request, &Circumstances::default())
    });
    match checked {
        Ok(plan) => {
            match format {
                Format::Table => {
                    print(&format!("{} objects in {} files are right\n", plan.intent.len(), files.len()))?;
                }
                other => print_value(other, &json!({"objects": plan.intent.len(), "problems": []}))?,
            }
            Ok(Exit::Success)
        }
        Err(problems) => refuse(format, &problem_messages(&problems)),
    }
}

fn show_schema(kind: Option<Kind>) -> Result<Exit, Error> {
    match kind {
        Some(kind) => print_value(Format::Json, schema::of(kind))?,
        None => print(&render::kinds())?,
    }
    Ok(Exit::Success)
}

fn show_difference(format: Format, difference: &Difference, revision: Option<u64>) -> Result<(), Error> {
    if format == Format::Table {
        return print(&render::difference(difference, revision));
    }
    let mut value = serde_json::to_value(difference).map_err(|error| Error::Refused(error.to_string()))?;
    if let Some(revision) = revision {
        value["revision"] = revision.into();
    }
    print_value(format, &value)
}

async fn diff(connection: &Connection, arguments: &Diff) -> Result<Exit, Error> {
    let files = read_files(&arguments.files.files)?;
    let format = arguments.output.format;
    let difference = if arguments.against.is_empty() {
        let message = v1::DiffRequest {
            files: messages(files),
            remove: Vec::new(),
            prune: arguments.manner.prune,
            site: arguments.manner.site.clone().unwrap_or_default(),
        };
        let reply = Backend::open(connection).await?.diff(message).await?;
        if !reply.problems.is_empty() {
            return refuse(format, &reply.problems);
        }
        difference_from(&reply.difference.unwrap_or_default())
    } else {
        let other = read_files(&arguments.against)?;
        let intents = Documents::read(&other).and_then(|before| Ok((before, Documents::read(&files)?)));
        match intents {
            Ok((before, after)) => Difference::between(&before.into_intent(), &after.into_intent()),
            Err(problems) => return refuse(format, &problem_messages(&problems)),
        }
    };
    show_difference(format, &difference, None)?;
    Ok(if difference.is_empty() { Exit::Success } else { Exit::Refused })
}

async fn apply(connection: &Connection, arguments: &Apply) -> Result<Exit, Error> {
    let files = messages(read_files(&arguments.files.files)?);
    let prune = arguments.manner.prune;
    let site = arguments.manner.site.clone().unwrap_or_default();
    let mut backend = Backend::open(connection).await?;
    if arguments.dry_run {
        let reply = backend.diff(v1::DiffRequest { files, remove: Vec::new(), prune, site }).await?;
        return finish(arguments.output.format, reply.problems, reply.difference, None);
    }
    let reply = backend.apply(v1::ApplyRequest { files, remove: Vec::new(), prune, site }).await?;
    finish(arguments.output.format, reply.problems, reply.difference, Some(reply.revision))
}

fn finish(
    format: Format,
    problems: Vec<v1::Problem>,
    difference: Option<v1::Difference>,
    revision: Option<u64>,
) -> Result<Exit, Error> {
    if !problems.is_empty() {
        return refuse(format, &problems);
    }
    show_difference(format, &difference_from(&difference.unwrap_or_default()), revision)?;
    Ok(Exit::Success)
}

async fn delete(connection: &Connection, arguments: &Delete) -> Result<Exit, Error> {
    for key in &arguments.keys {
        ObjectKey::parse(key).map_err(Error::Usage)?;
    }
    let message = v1::ApplyRequest {
        files: Vec::new(),
        remove: arguments.keys.clone(),
        prune: false,
        site: arguments.site.clone().unwrap_or_default(),
    };
    let reply = Backend::open(connection).await?.apply(message).await?;
    finish(arguments.output.format, reply.problems, reply.difference, Some(reply.revision))
}

async fn get(connection: &Connection, arguments: &Get) -> Result<Exit, Error> {
    let what = arguments.what.as_deref().unwrap_or_default();
    let one = match (&arguments.name, what.contains('/')) {
        (Some(_), true) => {
            return Err(Error::Usage(format!("{what} names an object already: leave the second name out")));
        }
        (Some(name), false) => {
            let namespace =
                arguments.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            Some(ObjectKey::parse(&format!("{what}/{namespace}{name}")).map_err(Error::Usage)?)
        }
        (None, true) => Some(ObjectKey::parse(what).map_err(Error::Usage)?),
        (None, false) => None,
    };
    let mut backend = Backend::open(connection).await?;
    let (objects, stale) = match one {
        Some(key) => {
            let reply = backend.get(&key.to_string()).await?;
            (reply.object.into_iter().collect(), reply.stale)
        }
        None => {
            let reply = backend.list(what, arguments.namespace.as_deref().unwrap_or_default()).await?;
            (reply.objects, reply.stale)
        }
    };
    warn_if_stale(&stale);
    print(&render::objects(arguments.output.format, &objects).map_err(Error::Refused)?)?;
    Ok(Exit::Success)
}

fn warn_if_stale(stale: &str) {
    if !stale.is_empty() {
        eprintln!("tieline-federation: this may be old: {stale}");
    }
}

async fn desired(connection: &Connection, gateway: Option<&str>, json: bool) -> Result<Exit, Error> {
    let reply = Backend::open(connection).await?.desired(gateway.unwrap_or_default()).await?;
    warn_if_stale(&reply.stale);
    let gateways: Value = serde_json::from_str(&reply.json)
        .map_err(|error| Error::Refused(format!("the answer is no JSON: {error}")))?;
    print_value(if json { Format::Json } else { Format::Yaml }, &gateways)?;
    Ok(Exit::Success)
}

async fn watch(connection: &Connection, after: Option<u64>) -> Result<Exit, Error> {
    let mut backend = Backend::open(connection).await?;
    let after = match after {
        Some(after) => after,
        None => backend.list(Kind::Cluster.name(), "").await?.revision,
    };
    let mut stream = backend.watch(after).await?;
    while let Some(reply) = stream.next().await {
        let reply = reply.map_err(|status| Error::from_status(&status, "go on watching"))?;
        print(&render::watched(&reply))?;
    }
    Err(Error::Unreachable("the controller has ended the watch: watch again".to_owned()))
}
