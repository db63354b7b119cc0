//! `tieline-federation run`: the controller, with its APIs beside it.

use std::convert::Infallible;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tieline_federation::api::{self, FederationService, IntentService};
use tieline_federation::controller::{self, Settings, questions};
use tieline_federation::intent::names::Name;
use tieline_federation::intent::rules::Author;
use tieline_federation::metrics;
use tieline_gate::Security;
use tieline_gate::accounts::Accounts;
use tieline_gate::server::Server;
use tieline_gate::tls::{self, Tls};
use tieline_log::filter::Filter;
use tieline_process::essential;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend;
use crate::cli::{Connection, Run};
use crate::config::Config;
use crate::error::{Error, Exit};

/// Runs until a signal comes.
pub async fn run(connection: &Connection, arguments: Run) -> Result<Exit, Error> {
    tieline_log::start(&Filter::default()).map_err(|error| Error::Usage(error.to_string()))?;
    if connection.server.is_some() {
        return Err(Error::Usage("run is the server itself: leave out --server".to_owned()));
    }
    let name = |text: &str, option: &str| {
        text.parse::<Name>().map_err(|reason| Error::Usage(format!("--{option} {text}: {reason}")))
    };
    let settings = Settings {
        cluster: name(&arguments.cluster, "cluster")?,
        controller: name(&arguments.controller, "controller")?,
        listen: arguments.listen,
    };
    let config = Config::read(arguments.config.as_ref()).map_err(|error| Error::Usage(error.to_string()))?;
    let store = backend::controllers_store(connection).await?;
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(essential::task(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        // Who waits for it has ended otherwise.
        let _ = stop.send(true);
    }));
    let (_socket, listener) = Socket::bind(arguments.socket)?;
    let until = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let (asker, questions) = questions::channel();
    if let Some(address) = arguments.metrics {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::Usage(format!("--metrics {address}: cannot listen there: {error}")))?;
        tokio::spawn(essential::task(metrics::serve(listener, asker.clone())));
    }
    let intent = IntentService::new(Arc::clone(&store), Author::Central);
    let serving = serve(config, intent, FederationService::new(asker), listener).await?;
    let outcome = controller::run(settings, store, questions, Box::pin(until(stopped))).await;
    serving.iter().for_each(JoinHandle::abort);
    outcome.map(|()| Exit::Success).map_err(|error| Error::Unreachable(error.to_string()))
}

/// Lets clients in, by the Unix socket and, if that is configured, over TCP.
/// Returns the tasks that do it; they do not end by themselves.
async fn serve(
    config: Config,
    intent: IntentService,
    federation: FederationService,
    socket: UnixListener,
) -> Result<Vec<JoinHandle<Infallible>>, Error> {
    let Config { tcp, roles, limits } = config;
    let services = api::services(intent, federation, &limits).await;
    let services =
        services.map_err(|error| Error::Refused(format!("the APIs cannot be described: {error}")))?;
    let security = Security { roles, accounts: Arc::new(Accounts::new(limits)) };
    let server = Server::new(services, api::needed, security);
    // Both services answer from now on; what the controller does not know yet it says.
    server.services().ready().await;
    let by_socket = Arc::clone(&server).serve_socket(socket);
    let mut tasks = vec![tokio::spawn(essential::task(by_socket))];
    let hangup = signal(SignalKind::hangup())?;
    let tls = match tcp {
        None => None,
        Some((address, settings)) => {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|error| {
                Error::Usage(format!("api.listen = {address}: cannot listen there: {error}"))
            })?;
            let tls = Arc::new(Tls::start(settings));
            tasks.push(tokio::spawn(essential::task(server.serve_tcp(listener, Arc::clone(&tls)))));
            Some(tls)
        }
    };
    tasks.push(tokio::spawn(essential::task(tls::look_after(tls, hangup))));
    Ok(tasks)
}

/// The Unix socket of the APIs; the file goes with it.
struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Binds it, in place of one that nobody listens on. Only its user and group
    /// may connect.
    fn bind(path: PathBuf) -> Result<(Self, UnixListener), Error> {
        let cannot = |what: &str, path: &Path, error: std::io::Error| {
            Error::Usage(format!("cannot {what} {}: {error}", path.display()))
        };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|error| cannot("make", directory, error))?;
        }
        let is_socket = std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return Err(Error::Usage(format!(
                    "{} is served by another controller: end that one, or use --socket",
                    path.display()
                )));
            }
            std::fs::remove_file(&path).map_err(|error| cannot("replace", &path, error))?;
        }
        let listener = UnixListener::bind(&path).map_err(|error| cannot("listen on", &path, error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))
            .map_err(|error| cannot("set the permissions of", &path, error))?;
        Ok((Self { path }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}
