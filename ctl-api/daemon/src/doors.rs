//! Where others come in: the two Unix sockets, for clients and for a daemon that
//! takes over, and the TCP port. A door that cannot be opened, or whose path
//! leads elsewhere, is a problem, and is tried again; forwarding does not depend
//! on it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tieline_proto::v1::ProblemKind;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::frame::Door;
use crate::problems::Problems;
use crate::socket::{ControlSocket, Leads, Permissions};

/// Clients that wait to be let in over TCP.
const BACKLOG: i32 = 1024;
/// Pause between two attempts to open a door, and between two looks where its
/// path leads.
const LOOK: Duration = Duration::from_secs(1);
/// Pause between two looks while somebody else is there: the look bothers them.
const LOOK_ELSEWHERE: Duration = Duration::from_secs(5);
/// How long tasks may take to let go of their listeners: they wait for nothing.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Whoever serves those who come in, until told to stop.
pub trait Servant: Send + Sync + 'static {
    /// Serves the clients of a Unix socket.
    fn clients(&self, listener: tokio::net::UnixListener) -> impl Future<Output = Infallible> + Send;
    /// Serves those who come over TCP.
    fn tcp_clients(&self, listener: tokio::net::TcpListener) -> impl Future<Output = Infallible> + Send;
    /// Speaks with daemons that want to take over.
    fn daemons(&self, listener: tokio::net::UnixListener) -> impl Future<Output = Infallible> + Send;
}

/// Where the doors are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The Unix socket of the API, and who may use it.
    pub control: (PathBuf, Permissions),
    /// The Unix socket where daemons meet, and who may use it.
    pub meeting: (PathBuf, Permissions),
    /// The TCP port of the API.
    pub tcp: Option<SocketAddr>,
}

/// All doors of a daemon: a handle.
#[derive(Debug, Clone)]
pub struct Doors {
    places: Arc<Places>,
    problems: Problems,
    held: Arc<Mutex<Held>>,
}

/// What is open.
#[derive(Debug, Default)]
struct Held {
    control: Option<ControlSocket>,
    meeting: Option<ControlSocket>,
    tcp: Option<TcpListener>,
    /// What lets others in.
    tasks: Vec<JoinHandle<()>>,
    /// Starts that again.
    again: Option<Again>,
}

impl Held {
    fn set_handed_on(&mut self, handed_on: bool) {
        for socket in [&mut self.control, &mut self.meeting].into_iter().flatten() {
            socket.set_handed_on(handed_on);
        }
    }

    fn socket(&mut self, which: Which) -> &mut Option<ControlSocket> {
        match which {
            Which::Control => &mut self.control,
            Which::Meeting => &mut self.meeting,
        }
    }
}

/// Opens doors as they were opened before.
#[derive(Clone)]
struct Again(Arc<dyn Fn(&Doors) + Send + Sync>);

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

/// One of the two Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Control,
    Meeting,
}

impl Doors {
    /// Doors at these places, all of them closed.
    pub fn new(places: Places, problems: Problems) -> Self {
        Self { places: Arc::new(places), problems, held: Arc::default() }
    }

    /// Takes the control socket, which is bound.
    pub fn set_control(&self, socket: ControlSocket) {
        self.lock().control = Some(socket);
    }

    /// Takes a listening socket that another daemon has handed on. One that
    /// leads to none of these places is closed.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn adopt(&self, door: Door, listener: OwnedFd) -> anyhow::Result<()> {
        match door {
            Door::Control(device, inode) => {
                let (path, permissions) = self.place(Which::Control);
                let socket = ControlSocket::adopt(path, *permissions, listener.into(), (device, inode))?;
                self.lock().control = socket;
            }
            Door::Meeting(device, inode) => {
                let (path, permissions) = self.place(Which::Meeting);
                let socket = ControlSocket::adopt(path, *permissions, listener.into(), (device, inode))?;
                self.lock().meeting = socket;
            }
            Door::Tcp => {
                let listener = Socket::from(listener);
                let listens = listener.is_listener()? && listener.protocol()? == Some(Protocol::TCP);
                let here = listener.local_addr()?.as_socket();
                if listens && here.is_some() && here == self.places.tcp {
                    listener.set_nonblocking(true)?;
                    self.lock().tcp = Some(listener.into());
                }
            }
        }
        Ok(())
    }

    /// Copies of the listening sockets, for another daemon.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn copies(&self) -> io::Result<Vec<(Door, OwnedFd)>> {
        let held = self.lock();
        let mut copies = Vec::new();
        if let Some(socket) = &held.control {
            let (device, inode) = socket.file();
            copies.push((Door::Control(device, inode), socket.listener()?.into()));
        }
        if let Some(socket) = &held.meeting {
            let (device, inode) = socket.file();
            copies.push((Door::Meeting(device, inode), socket.listener()?.into()));
        }
        if let Some(listener) = &held.tcp {
            copies.push((Door::Tcp, listener.as_fd().try_clone_to_owned()?));
        }
        Ok(copies)
    }

    /// Lets others in from now on, and looks after the doors. What can be opened is
    /// open when this returns.
    pub fn open(&self, runtime: &Handle, servant: &Arc<impl Servant>) {
        // What fails is tried again, and told, by the tasks.
        for which in [Which::Control, Which::Meeting] {
            let _ = self.socket(which);
        }
        if let Some(address) = self.places.tcp {
            let _ = self.tcp_socket(address);
        }
        let mut tasks = Vec::new();
        let (doors, of_clients) = (self.clone(), Arc::clone(servant));
        tasks.push(runtime.spawn(async move {
            doors.attend(Which::Control, |listener| of_clients.clients(listener)).await;
        }));
        let (doors, of_daemons) = (self.clone(), Arc::clone(servant));
        tasks.push(runtime.spawn(async move {
            doors.attend(Which::Meeting, |listener| of_daemons.daemons(listener)).await;
        }));
        if let Some(address) = self.places.tcp {
            let (doors, of_tcp) = (self.clone(), Arc::clone(servant));
            tasks.push(runtime.spawn(async move {
                let listener = doors.tcp_listener(address).await;
                of_tcp.tcp_clients(listener).await;
            }));
        }
        let mut held = self.lock();
        held.set_handed_on(false);
        held.tasks = tasks;
        let (runtime, servant) = (runtime.clone(), Arc::clone(servant));
        held.again = Some(Again(Arc::new(move |doors| doors.open(&runtime, &servant))));
    }

    /// Lets others in again, after [`close`](Self::close).
    pub fn open_again(&self) {
        let again = self.lock().again.clone();
        if let Some(Again(open)) = again {
            open(self);
        }
    }

    /// Lets nobody in any more; whoever comes waits for the next who does. The
    /// files of the sockets stay from now on: they are somebody else's.
    pub fn close(&self) {
        let mut held = self.lock();
        held.set_handed_on(true);
        let tasks = std::mem::take(&mut held.tasks);
        drop(held);
        tasks.iter().for_each(JoinHandle::abort);
        let deadline = Instant::now() + CLOSE_PATIENCE;
        // No runtime is needed to see that, should it be about to end.
        while tasks.iter().any(|task| !task.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Closes the doors for good, and removes the files of sockets that nobody
    /// else has.
    pub fn remove(&self) {
        *self.lock() = Held::default();
    }

    fn place(&self, which: Which) -> &(PathBuf, Permissions) {
        match which {
            Which::Control => &self.places.control,
            Which::Meeting => &self.places.meeting,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a Unix socket for ever, and makes it anew when its path does not
    /// lead to it any more.
    async fn attend<F>(&self, which: Which, serve: impl Fn(tokio::net::UnixListener) -> F) -> Infallible
    where
        F: Future<Output = Infallible>,
    {
        loop {
            let listener = self.listener(which).await;
            tokio::select! {
                never = serve(listener) => match never {},
                () = self.leads_nowhere(which) => {}
            }
        }
    }

    /// A copy of the Unix socket that is held, or else of a new one.
    fn socket(&self, which: Which) -> anyhow::Result<UnixListener> {
        let (path, permissions) = self.place(which);
        let mut held = self.lock();
        let socket = match held.socket(which) {
            Some(socket) => socket,
            nothing => nothing.insert(ControlSocket::replace(path, *permissions)?),
        };
        Ok(socket.listener()?)
    }

    /// A copy of the TCP socket that is held, or else of a new one.
    fn tcp_socket(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let mut held = self.lock();
        let listener = match &mut held.tcp {
            Some(listener) => listener,
            nothing => nothing.insert(bind(address)?),
        };
        listener.try_clone()
    }

    /// A listener at the socket that is held, or else at a new one.
    async fn listener(&self, which: Which) -> tokio::net::UnixListener {
        let (path, _) = self.place(which);
        let attempt = || Ok(tokio::net::UnixListener::from_std(self.socket(which)?)?);
        let what = match which {
            Which::Control => "clients cannot come in by this socket",
            Which::Meeting => "no daemon can take over by this socket",
        };
        self.until_open(&path.display().to_string(), what, attempt).await
    }

    /// A listener at the TCP socket that is held, or else at a new one.
    async fn tcp_listener(&self, address: SocketAddr) -> tokio::net::TcpListener {
        let attempt = || Ok(tokio::net::TcpListener::from_std(self.tcp_socket(address)?)?);
        let listener =
            self.until_open(&address.to_string(), "clients cannot come in over TCP", attempt).await;
        tracing::info!(%address, "serving the control API with mutual TLS");
        listener
    }

    /// Tries until it works. Until then it is a problem that `what`.
    async fn until_open<L>(
        &self,
        subject: &str,
        what: &str,
        mut attempt: impl FnMut() -> anyhow::Result<L>,
    ) -> L {
        let mut said = String::new();
        loop {
            match attempt() {
                Ok(listener) => {
                    self.problems.end(ProblemKind::Listener, subject);
                    if !said.is_empty() {
                        tracing::info!("{subject} is open now");
                    }
                    return listener;
                }
                Err(error) => {
                    let message = format!("{what}, and it is tried again: {error:#}");
                    if said != message {
                        tracing::error!("{subject}: {message}");
                    }
                    self.problems.begin(ProblemKind::Listener, subject, message.clone());
                    said = message;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends when the path of the socket leads to nobody any more.
    async fn leads_nowhere(&self, which: Which) {
        let (path, _) = self.place(which);
        let subject = path.display().to_string();
        let mut elsewhere = false;
        loop {
            tokio::time::sleep(if elsewhere { LOOK_ELSEWHERE } else { LOOK }).await;
            let mut held = self.lock();
            let socket = held.socket(which);
            let leads = socket.as_ref().map_or(Leads::Nowhere, ControlSocket::leads);
            if leads == Leads::Nowhere {
                *socket = None;
            }
            drop(held);
            match leads {
                Leads::Here if elsewhere => self.problems.end(ProblemKind::Listener, &subject),
                Leads::Here => {}
                Leads::Elsewhere => {
                    let message =
                        "another process has put a socket of its own there: who comes by it comes to that";
                    if !elsewhere {
                        tracing::error!("{subject}: {message}");
                    }
                    self.problems.begin(ProblemKind::Listener, &subject, message);
                }
                Leads::Nowhere => {
                    tracing::warn!("{subject}: somebody has removed the socket: it is made anew");
                    return;
                }
            }
            elsewhere = leads == Leads::Elsewhere;
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a daemon that has ended do not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
