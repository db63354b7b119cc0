//! The command line: commands, their arguments and help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tieline_federation::intent::kinds::Kind;

/// Where a controller's socket is, unless something else is told.
pub const SOCKET: &str = "/run/tieline/federation.sock";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something was refused
  2  wrong usage, or a file that cannot be read
  3  the controller or the store cannot be reached
  4  not found";

const DIFF_EXIT_CODES: &str = "\
Exit codes:
  0  nothing would change
  1  it would, or would be refused
  2  wrong usage, or a file that cannot be read
  3  the controller or the store cannot be reached";

const AUDIT_EXIT_CODES: &str = "\
Exit codes:
  0  no difference
  1  there are differences
  2  something could not be looked at, and there are no differences elsewhere";

/// Joins clusters of Tieline gateways: what is wanted, checked and applied.
#[derive(Debug, Parser)]
#[command(name = "tieline-federation", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// Where the intent is.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the intent is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where the intent is")]
pub struct Connection {
    /// A running controller: unix:PATH, http://HOST:PORT or https://HOST:PORT
    #[arg(long, global = true, env = "TIELINE_FEDERATION_SERVER", value_name = "ADDRESS")]
    pub server: Option<String>,
    /// Members of etcd, separated by commas
    #[arg(
        long,
        global = true,
        env = "TIELINE_FEDERATION_ETCD",
        value_name = "URL",
        value_delimiter = ',',
        conflicts_with = "server"
    )]
    pub etcd: Vec<String>,
    /// With --etcd: what all keys begin with
    #[arg(long, global = true, value_name = "PREFIX", default_value = "tieline/federation")]
    pub etcd_prefix: String,
    /// The file of the embedded store, when no controller has it open
    #[arg(
        long,
        global = true,
        env = "TIELINE_FEDERATION_STORE",
        value_name = "PATH",
        default_value = "/var/lib/tieline/federation.redb"
    )]
    pub store: PathBuf,
    /// With --etcd: file with the key that seals passwords there, 64 hexadecimal digits; the same for all who use it
    #[arg(long, global = true, env = "TIELINE_FEDERATION_SEAL_KEY", value_name = "FILE")]
    pub seal_key: Option<PathBuf>,
    /// With https: CA of the controller's or etcd's certificate, a PEM file
    #[arg(long, global = true, env = "TIELINE_FEDERATION_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// With https: certificate to show, a PEM file
    #[arg(long, global = true, env = "TIELINE_FEDERATION_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// With https: its key, a PEM file
    #[arg(long, global = true, env = "TIELINE_FEDERATION_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// With https: name in the controller's certificate, if it is not HOST
    #[arg(long, global = true, env = "TIELINE_FEDERATION_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check files alone, as one whole intent
    Validate(Validate),
    /// Print the JSON schema of a kind, or list the kinds
    Schema {
        /// The kind, such as VirtualNetwork or vn
        kind: Option<Kind>,
    },
    /// Show what applying files would change
    Diff(Diff),
    /// Declare the objects in files, all of them or none
    Apply(Apply),
    /// Remove objects
    Delete(Delete),
    /// Show objects
    Get(Get),
    /// Show what gateways should hold, with the numbers that are allocated
    Desired {
        /// Name of a gateway; absent: all
        gateway: Option<String>,
        /// Print JSON instead of YAML
        #[arg(long)]
        json: bool,
    },
    /// Run the controller of a cluster, and serve its APIs
    Run(Run),
    /// Show how a running controller is: problems first
    Status {
        /// How to print.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Compare what is wanted and what BGP says with what gateways really hold
    #[command(after_help = AUDIT_EXIT_CODES)]
    Audit {
        /// How to print.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show what has happened at a running controller, a line each
    Events(Events),
    /// Follow changes of the intent, a line each
    Watch {
        /// Begin after this revision; absent: what comes from now on
        #[arg(long, value_name = "REVISION")]
        after: Option<u64>,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// JSON
    Json,
    /// YAML, as it can be applied
    Yaml,
}

/// The output option.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value = "table", value_name = "FORMAT")]
    pub format: Format,
}

/// Files of objects.
#[derive(Debug, Clone, Args)]
pub struct Files {
    /// YAML or JSON files of objects, or directories of such; - is standard input
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<String>,
}

/// How objects are declared.
#[derive(Debug, Clone, Args)]
pub struct Manner {
    /// Remove every object that no file declares
    #[arg(long)]
    pub prune: bool,
    /// In the name of a site, which may declare endpoints at its gateways only
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// What to check.
    #[command(flatten)]
    pub files: Files,
    /// How to print problems.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXIT_CODES)]
pub struct Diff {
    /// What would be applied.
    #[command(flatten)]
    pub files: Files,
    /// How it would be applied.
    #[command(flatten)]
    pub manner: Manner,
    /// Compare with these files instead of what is applied
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with_all = ["prune", "site"])]
    pub against: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// What to declare.
    #[command(flatten)]
    pub files: Files,
    /// How.
    #[command(flatten)]
    pub manner: Manner,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Name of the cluster
    #[arg(long, env = "TIELINE_FEDERATION_CLUSTER", value_name = "NAME")]
    pub cluster: String,
    /// Which of the cluster's controllers this is
    #[arg(long, env = "TIELINE_FEDERATION_CONTROLLER", value_name = "NAME")]
    pub controller: String,
    /// Where to take BGP connections; absent: nowhere, it only connects
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Where Prometheus reads metrics, over HTTP at /metrics, without a password; absent: nowhere
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Who comes in to the APIs over TCP, who may do what, how much of it [default: /etc/tieline/federation.toml, if it exists]
    #[arg(long, env = "TIELINE_FEDERATION_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The Unix socket of the APIs
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with what comes
    #[arg(long)]
    pub follow: bool,
    /// Begin after this position, which is the first word of an event; absent: with all that is remembered
    #[arg(long, value_name = "POSITION")]
    pub after: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Keys, such as VirtualNetwork/default/red or vn/red
    #[arg(required = true, value_name = "KIND/NAME")]
    pub keys: Vec<String>,
    /// In the name of a site
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// A kind, such as VirtualNetwork or vn, or KIND/NAME; absent: all
    #[arg(value_name = "KIND")]
    pub what: Option<String>,
    /// Name of one object of the kind
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Only of this namespace
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
