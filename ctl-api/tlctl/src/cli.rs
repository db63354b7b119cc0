//! The command line: commands, their arguments and help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::client::Target;
use crate::error::Error;
use crate::kind::Kind;
use crate::tls::TlsFiles;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the daemon refused something
  2  wrong usage, or a file that cannot be read
  3  the daemon cannot be reached
  4  not found";

const DIFF_EXIT_CODES: &str = "\
Exit codes:
  0  the daemon has what the files say, and nothing else in that name
  1  it differs, or would refuse something
  2  wrong usage, or a file that cannot be read
  3  the daemon cannot be reached";

/// Programs and reads a Tieline gateway.
#[derive(Debug, Parser)]
#[command(name = "tlctl", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// How to reach the daemon.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the daemon.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The daemon: unix:PATH or https://HOST:PORT; instead of --socket
    #[arg(long, global = true, env = "TLCTL_DAEMON", value_name = "ADDRESS")]
    pub daemon: Option<Target>,
    /// Path of the daemon's control socket
    #[arg(
        long,
        global = true,
        env = "TIELINE_SOCKET",
        value_name = "PATH",
        default_value = "/run/tieline/control.sock"
    )]
    pub socket: Target,
    /// With https: CA of the daemon's certificate, a PEM file
    #[arg(id = "tls_ca", long = "ca", global = true, env = "TLCTL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// With https: certificate to show, a PEM file
    #[arg(id = "tls_cert", long = "cert", global = true, env = "TLCTL_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// With https: its key, a PEM file
    #[arg(id = "tls_key", long = "key", global = true, env = "TLCTL_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// With https: name in the daemon's certificate, if it is not HOST
    #[arg(long, global = true, env = "TLCTL_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,
}

impl Connection {
    /// The daemon that is meant, with what is needed to reach it.
    ///
    /// # Errors
    /// When something is missing.
    pub fn target(self) -> Result<Target, Error> {
        match self.daemon.unwrap_or(self.socket) {
            Target::Https { url, .. } => {
                let needed = |path: Option<PathBuf>, option: &str, what: &str| {
                    path.ok_or_else(|| {
                        let variable = format!("TLCTL_{}", option.to_uppercase());
                        Error::Usage(format!("{url} needs --{option} FILE or {variable}: {what}"))
                    })
                };
                let files = TlsFiles {
                    ca: needed(self.ca, "ca", "the CA of the daemon's certificate")?,
                    cert: needed(self.cert, "cert", "a certificate with a role at the daemon")?,
                    key: needed(self.key, "key", "the key of that certificate")?,
                    server_name: self.server_name,
                };
                Ok(Target::Https { url, files: Box::new(files) })
            }
            other => Ok(other),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Declare the objects in files, and wait until every worker has them
    Apply(Apply),
    /// Withdraw objects, named here or in files
    Delete(Delete),
    /// Show how files differ from what the daemon has in a controller's name
    Diff(Diff),
    /// Show one object, its status and who holds it
    Get(Get),
    /// Show the objects of one kind, all or some
    List(List),
    /// Show the controllers that are here or hold something
    Controllers(OutputArgs),
    /// Forget a controller that is away: its term, and what it holds if asked to
    Forget(Forget),
    /// Follow objects and events, a line each
    Watch(Watch),
    /// Show what VRFs originate, for others to import
    Exports(Exports),
    /// Show the forwarding table of a VRF, or what one address matches there
    Routes(Routes),
    /// Show live sessions
    Sessions(Sessions),
    /// Show neighbours (ARP and ND)
    Neighbours(OutputArgs),
    /// Show dropped packets by reason
    Drops(Drops),
    /// Show counters of workers, ports, interfaces and VRFs, or cycles by stage
    Stats(Stats),
    /// Show what is wrong with the gateway at the moment
    Problems(OutputArgs),
    /// Show the versions of tlctl and of the daemon
    Version(OutputArgs),
    /// Wait until the daemon answers
    Wait(Wait),
    /// Write a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// The output option.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value = "table", value_name = "FORMAT")]
    pub format: Format,
}

/// Which controller to forget.
#[derive(Debug, Args)]
pub struct Forget {
    /// Name of the controller
    pub controller: String,
    /// Withdraw what it holds, too
    #[arg(long)]
    pub withdraw: bool,
}

/// In whose name objects are declared.
#[derive(Debug, Args)]
pub struct As {
    /// Name of the controller that holds the objects
    #[arg(long = "as", value_name = "NAME", default_value = "operator")]
    pub controller: String,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// YAML or JSON files of objects; - is standard input
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<String>,
    /// All or nothing: one refused object refuses all
    #[arg(long)]
    pub atomic: bool,
    /// Refuse objects that refer to something undeclared, instead of letting them wait
    #[arg(long, requires = "atomic")]
    pub require_references: bool,
    /// Only show what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// In whose name.
    #[command(flatten)]
    pub by: As,
    /// How to print a dry run
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        requires = "dry_run"
    )]
    pub format: Format,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXIT_CODES)]
pub struct Diff {
    /// YAML or JSON files of objects; - is standard input
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<String>,
    /// In whose name.
    #[command(flatten)]
    pub by: As,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(override_usage = "tlctl delete -f FILE...\n       tlctl delete KIND KEY...")]
pub struct Delete {
    /// Withdraw the objects in these files; - is standard input
    #[arg(short = 'f', long = "file", num_args = 1.., value_name = "FILE", conflicts_with = "kind")]
    pub files: Vec<String>,
    /// Kind of the objects
    #[arg(value_enum, required_unless_present = "files", requires = "keys")]
    pub kind: Option<Kind>,
    /// Names or IDs; for a route RD PREFIX, for a static-route VRF PREFIX
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// In whose name.
    #[command(flatten)]
    pub by: As,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Kind of the object
    #[arg(value_enum)]
    pub kind: Kind,
    /// Name or ID; for a route RD PREFIX, for a static-route VRF PREFIX
    #[arg(required = true, num_args = 1..=2, value_name = "KEY")]
    pub key: Vec<String>,
    /// Only if this controller holds it; of several routes its own
    #[arg(long, value_name = "NAME")]
    pub controller: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Kind of the objects
    #[arg(value_enum)]
    pub kind: Kind,
    /// Which of them.
    #[command(flatten)]
    pub filter: Filter,
    /// Show who holds them too
    #[arg(long)]
    pub wide: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Which objects to list: those that all of these hold for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filter {
    /// Only held by this controller
    #[arg(long, value_name = "NAME")]
    pub controller: Option<String>,
    /// Only of this VRF (interfaces, static routes, VRFs)
    #[arg(long, value_name = "VRF")]
    pub vrf: Option<String>,
    /// Only in this state
    #[arg(long, value_enum, value_name = "STATE")]
    pub state: Option<State>,
    /// Only to prefixes inside this one (routes, static routes)
    #[arg(long, value_name = "PREFIX")]
    pub within: Option<String>,
    /// Only with this route target (routes, VRFs)
    #[arg(long, value_name = "RT")]
    pub route_target: Option<String>,
    /// Only to this next hop or group (routes, static routes, groups)
    #[arg(long, value_name = "NAME")]
    pub next_hop: Option<String>,
}

/// Whether an object has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// In force
    Ready,
    /// Refers to something that is not declared
    Waiting,
    /// Valid, but something keeps it from working
    Degraded,
    /// On its way: the device of its port is being opened
    Pending,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Kinds to follow; none is all
    #[arg(value_enum, value_name = "KIND")]
    pub kinds: Vec<Kind>,
    /// Follow events too: links, neighbours, controllers, limits
    #[arg(long)]
    pub events: bool,
    /// Go on after this place (`resume_token` in JSON) instead of beginning with all objects
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub resume: String,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `exports`.
#[derive(Debug, Args)]
pub struct Exports {
    /// Only of these VRFs
    #[arg(long = "vrf", value_name = "VRF")]
    pub vrfs: Vec<String>,
    /// Go on with changes, a line each
    #[arg(long)]
    pub follow: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `routes`.
#[derive(Debug, Args)]
pub struct Routes {
    /// Name of the VRF
    #[arg(long)]
    pub vrf: String,
    /// Only the entry that this address matches (longest prefix)
    #[arg(long)]
    pub address: Option<std::net::IpAddr>,
    /// Show all columns, however wide
    #[arg(long)]
    pub wide: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `sessions`.
#[derive(Debug, Args)]
pub struct Sessions {
    /// Only of this VRF
    #[arg(long)]
    pub vrf: Option<String>,
    /// Most sessions to show
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Show all columns, however wide
    #[arg(long)]
    pub wide: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `drops`.
#[derive(Debug, Args)]
pub struct Drops {
    /// Only of this interface
    #[arg(long, conflicts_with = "vrf")]
    pub interface: Option<String>,
    /// Only of this VRF
    #[arg(long)]
    pub vrf: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Stats {
    /// What to show instead.
    #[command(subcommand)]
    pub of: Option<StatsOf>,
    /// Show again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          value_parser = parse_interval)]
    pub watch: Option<f64>,
    /// Stop watching after so many times
    #[arg(long, value_name = "TIMES", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `stats` shows beside counters.
#[derive(Debug, Subcommand)]
pub enum StatsOf {
    /// Show where the workers' cycles go, by stage of the pipeline
    Stages(Stages),
}

/// Arguments of `stats stages`.
#[derive(Debug, Args)]
pub struct Stages {
    /// Measure for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    pub interval: f64,
    /// Show everything since the start of the daemon
    #[arg(long, conflicts_with = "interval")]
    pub total: bool,
    /// Only of this worker
    #[arg(long, value_name = "N")]
    pub worker: Option<u32>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub timeout: u64,
}

fn parse_interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("must be between 0.1 and 3600 seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn kinds_go_by_singular_plural_and_short_names() {
        let cases = [
            ("if", Kind::Interface),
            ("vrfs", Kind::Vrf),
            ("nh", Kind::NextHop),
            ("next_hop_groups", Kind::NextHopGroup),
            ("nhg", Kind::NextHopGroup),
            ("sg", Kind::SecurityGroup),
            ("static-routes", Kind::StaticRoute),
        ];
        for (word, kind) in cases {
            let Command::List(list) = parse(&format!("tlctl list {word}")).expect(word).command else {
                panic!("not list");
            };
            assert_eq!(list.kind, kind, "{word}");
        }
    }

    #[test]
    fn delete_takes_files_or_a_kind_with_keys() {
        for good in ["tlctl delete -f a b", "tlctl delete vrf red blue", "tlctl delete route 1:1 10.0.0.0/8"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["tlctl delete", "tlctl delete vrf", "tlctl delete vrf red -f a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_that_need_others_say_so() {
        for good in [
            "tlctl apply -f a --atomic --require-references",
            "tlctl apply -f a --dry-run -o json --as cluster-a",
            "tlctl list route --controller a --state waiting --within 10.0.0.0/8 --wide",
            "tlctl watch",
            "tlctl watch vrf if --events -o json",
            "tlctl exports --vrf red --vrf blue --follow",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "tlctl apply -f a --require-references",
            "tlctl apply -f a -o json",
            "tlctl diff",
            "tlctl list vrf --state broken",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn watch_has_a_default_and_bounds() {
        let watch = |line: &str| match parse(line).map(|cli| cli.command) {
            Ok(Command::Stats(stats)) => stats.watch,
            other => panic!("{other:?}"),
        };
        assert_eq!(watch("tlctl stats"), None);
        assert_eq!(watch("tlctl stats --watch"), Some(1.0));
        assert_eq!(watch("tlctl stats --watch 0.5"), Some(0.5));
        assert!(parse("tlctl stats --watch 0").is_err());
        assert!(parse("tlctl stats --watch nan").is_err());
    }

    #[test]
    fn stages_are_measured_or_summed_up() {
        let stages = |line: &str| match parse(line).map(|cli| cli.command) {
            Ok(Command::Stats(Stats { of: Some(StatsOf::Stages(stages)), .. })) => stages,
            other => panic!("{other:?}"),
        };
        assert_eq!(stages("tlctl stats stages").interval, 1.0);
        assert_eq!(stages("tlctl stats stages --interval 0.5 --worker 1").worker, Some(1));
        assert!(stages("tlctl stats stages --total -o json").total);
        assert!(parse("tlctl stats stages --total --interval 2").is_err());
        assert!(parse("tlctl stats stages --interval 0").is_err());
        assert!(parse("tlctl stats --watch 1 stages").is_err());
    }
}
