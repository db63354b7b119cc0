//! A daemon that runs and goes, played by the test: it says what a daemon of the
//! release before has said (`protocol_2.frames`, as it was recorded), in either
//! protocol, and can end at any step.

use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::support::{PATIENCE, Place};
use tieline_daemon::frame::{Channel, Door, FrameError, Hello, Kind, StoreWord};

/// What a daemon of release 0.1.0 with a port, an interface, a VRF, a next hop
/// and a route has said in a take-over, from its hello to its last word.
const RECORDED: &[u8] = include_bytes!("protocol_2.frames");

/// How it behaves.
#[derive(Default)]
pub struct Script {
    /// The newest protocol that it speaks.
    pub protocol: u16,
    /// It ends after it has said, or heard, this for the first time.
    pub last: Option<Kind>,
    /// It ends after so many messages of its own.
    pub messages: Option<usize>,
    /// It has this listener, and hands it on in protocol 3.
    pub tcp: Option<TcpListener>,
    /// Whatever it has until it is waited for, as a process does that takes long to
    /// end after its last word.
    pub holds: Vec<Box<dyn Send>>,
    /// What it says of its store, in protocol 3.
    pub store: Option<StoreWord>,
}

/// The daemon at work.
pub struct OldDaemon {
    /// Until it is gone the process lingers.
    is_needed: Sender<()>,
    thread: JoinHandle<Result<(), FrameError>>,
    path: PathBuf,
}

impl OldDaemon {
    /// Waits at the place of daemons that take over.
    pub fn start(place: &Place, script: Script) -> Self {
        let mut path = place.socket().into_os_string();
        path.push(".upgrade");
        let path = PathBuf::from(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a free path");
        let (is_needed, lingers) = channel();
        let thread = std::thread::spawn(move || {
            let said = run(&listener, &script);
            // Nobody comes to it any more.
            drop(listener);
            // An error is what is waited for: nothing is sent.
            let _ = lingers.recv();
            drop((script.holds, script.tcp));
            said
        });
        Self { is_needed, thread, path }
    }

    /// Waits for its end. Says whether it has come to its own.
    pub fn wait(self) -> Result<(), FrameError> {
        drop(self.is_needed);
        let outcome = self.thread.join().expect("it does not panic");
        let _ = std::fs::remove_file(self.path);
        outcome
    }
}

/// The recorded messages.
fn recorded() -> Vec<(Kind, Vec<u8>)> {
    let (mut write, read) = UnixStream::pair().expect("a pair");
    std::io::Write::write_all(&mut write, RECORDED).expect("room");
    drop(write);
    let mut channel = Channel::new(read, PATIENCE).expect("a socket");
    let mut all = Vec::new();
    while let Ok((kind, contents)) = channel.receive() {
        all.push((kind, contents.to_vec()));
    }
    assert_eq!(all.last().map(|(kind, _)| *kind), Some(Kind::Yours), "all of it");
    all
}

fn run(listener: &UnixListener, script: &Script) -> Result<(), FrameError> {
    loop {
        let (stream, _) = listener.accept()?;
        let mut channel = Channel::new(stream, PATIENCE)?;
        let theirs = Hello::parse(channel.expect(Kind::Hello)?).expect("a hello");
        if theirs.protocol > script.protocol {
            // In the words of that release.
            let words = format!(
                "release {} takes over by protocol {} with live state 1, this one (0.1.0) by protocol 2 with live \
                 state 1: restart instead",
                theirs.release, theirs.protocol
            );
            channel.send(Kind::Refused, words.as_bytes())?;
            continue;
        }
        return Conversation { channel, script, said: 0 }.run(theirs.protocol);
    }
}

struct Conversation<'a> {
    channel: Channel,
    script: &'a Script,
    said: usize,
}

impl Conversation<'_> {
    /// Whether this was the last that it does.
    fn is_last(&self, kind: Kind) -> bool {
        self.script.last == Some(kind) || self.script.messages == Some(self.said)
    }

    fn run(&mut self, protocol: u16) -> Result<(), FrameError> {
        for (kind, contents) in recorded() {
            let contents = match kind {
                Kind::Hello => Hello { protocol, state: 1, release: "0.1.0".into() }.to_bytes(),
                Kind::Yours if protocol >= 3 => {
                    if let Some(tcp) = &self.script.tcp {
                        self.channel.send_with(Kind::Door, &Door::Tcp.to_bytes(), tcp.as_fd())?;
                    }
                    self.script.store.as_ref().map(StoreWord::to_bytes).unwrap_or_default()
                }
                _ => contents,
            };
            self.channel.send(kind, &contents)?;
            self.said += 1;
            if self.is_last(kind) {
                return Ok(());
            }
            let answer = match kind {
                Kind::Copied => Kind::Ready,
                Kind::Released => Kind::Forwarding,
                Kind::Yours if protocol >= 3 => Kind::Serving,
                _ => continue,
            };
            self.channel.expect(answer)?;
            if self.is_last(answer) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How many messages of its own it has to say.
pub fn messages() -> usize {
    recorded().len()
}
