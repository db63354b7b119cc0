//! A real etcd on loopback, with its data in a directory of the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tieline_federation::store::etcd::{EtcdOptions, EtcdStore};

use crate::place::Place;

/// One or several members.
pub struct EtcdServer {
    members: Vec<Child>,
    commands: Vec<Command>,
    endpoints: Vec<String>,
    _place: Place,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl EtcdServer {
    /// Starts a cluster; none when etcd is not installed.
    pub fn start(members: usize) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: etcd is not installed (Debian: etcd-server)");
            return None;
        }
        let place = Place::new();
        let ports: Vec<(u16, u16)> = (0..members).map(|_| (free_port(), free_port())).collect();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            ports.iter().enumerate().map(|(n, (_, peer))| format!("m{n}={}", url(*peer))).collect();
        let command = |n: usize, (client, peer): (u16, u16)| {
            let mut command = Command::new("etcd");
            command
                .args(["--name", &format!("m{n}"), "--initial-cluster", &cluster.join(",")])
                .arg("--data-dir")
                .arg(place.path().join(format!("m{n}")))
                .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
                .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
                .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        let mut commands: Vec<Command> =
            ports.iter().enumerate().map(|(n, ports)| command(n, *ports)).collect();
        let members = commands.iter_mut().map(|command| command.spawn().expect("etcd starts")).collect();
        let endpoints = ports.iter().map(|(client, _)| url(*client)).collect();
        Some(Self { members, commands, endpoints, _place: place })
    }

    /// Starts a member again that was killed, with what it had.
    pub fn start_again(&mut self, member: usize) {
        self.members[member] = self.commands[member].spawn().expect("etcd starts");
    }

    /// A store in it, once it answers.
    pub async fn store(&self) -> EtcdStore {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let options = EtcdOptions::new(self.endpoints.clone());
            if let Ok(store) = EtcdStore::connect(options).await
                && tieline_federation::store::Store::read(&store).await.is_ok_and(|read| read.stale.is_none())
            {
                return store;
            }
            assert!(Instant::now() < deadline, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Where the first member is.
    pub fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// Ends a member, as a crash would.
    pub fn kill(&mut self, member: usize) {
        let _ = self.members[member].kill();
        let _ = self.members[member].wait();
    }

    /// Stops a member, or lets it go on.
    pub fn signal(&self, member: usize, signal: &str) {
        let id = self.members[member].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
    }
}
