//! Following objects, events and exports.
//!
//! A watcher has a position in the ring of [changes](crate::changes), and reads
//! what is behind it a part at a time, when its client has taken what was before.
//! A slow client falls behind and at last loses its position; it costs no memory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tieline_proto::v1;
use tieline_proto::v1::watch_exports_reply::What as ExportWhat;
use tieline_proto::v1::watch_reply::What;
use tieline_rib::Key;
use tokio::sync::mpsc;
use tonic::Status;

use crate::changes::Change;
use crate::control::Control;
use crate::gateway::Gateway;

/// Replies that wait for a client.
const QUEUE: usize = 64;
/// Changes that are read at once.
const PART: usize = 512;
/// Objects on a page of the first round.
const PAGE: u32 = 512;
/// Pause after changes were sent: what comes meanwhile is read together.
const PAUSE: Duration = Duration::from_millis(2);
/// The same for exports, each round of which looks at all of them.
const EXPORTS_PAUSE: Duration = Duration::from_millis(20);

/// A watcher's client has gone, or the daemon stops.
struct Gone;

type Replies<T> = mpsc::Sender<Result<T, Status>>;

/// Begins to follow objects and events.
///
/// # Errors
/// When a kind does not exist.
pub fn watch(
    control: Control,
    boot_id: String,
    request: v1::WatchRequest,
) -> Result<mpsc::Receiver<Result<v1::WatchReply, Status>>, Status> {
    let mut kinds = BTreeSet::new();
    for kind in &request.kinds {
        match v1::ObjectKind::try_from(*kind) {
            Ok(v1::ObjectKind::Unspecified) | Err(_) => {
                return Err(Status::invalid_argument(format!("kinds: {kind} is no kind of objects")));
            }
            Ok(kind) => {
                kinds.insert(kind);
            }
        }
    }
    if kinds.is_empty() {
        kinds = (1..=8).filter_map(|number| v1::ObjectKind::try_from(number).ok()).collect();
    }
    let (replies, receiver) = mpsc::channel(QUEUE);
    let watcher = Watcher { control, boot_id, kinds, events: request.events, replies };
    tokio::spawn(async move {
        // Whoever has gone need not be told.
        let _ = watcher.run(&request.resume_token).await;
    });
    Ok(receiver)
}

struct Watcher {
    control: Control,
    boot_id: String,
    kinds: BTreeSet<v1::ObjectKind>,
    events: bool,
    replies: Replies<v1::WatchReply>,
}

impl Watcher {
    async fn run(self, token: &str) -> Result<(), Gone> {
        let mut position = match (token, self.position(token)) {
            ("", _) => self.all().await?,
            (_, Some(position)) => position,
            (_, None) => {
                self.lost("the token is of another start of the gateway, or none of its tokens").await?;
                self.all().await?
            }
        };
        let mut head = self.control.head();
        loop {
            position = match self.changes(position).await? {
                Some(next) => next,
                None => {
                    self.lost("more has changed than is remembered").await?;
                    self.all().await?
                }
            };
            if *head.borrow_and_update() > position {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            tokio::select! {
                changed = head.changed() => changed.map_err(|_| Gone)?,
                () = self.replies.closed() => return Err(Gone),
            }
        }
    }

    /// The position that a token stands for.
    fn position(&self, token: &str) -> Option<u64> {
        let (boot_id, position) = token.split_once('.')?;
        if boot_id != self.boot_id {
            return None;
        }
        position.parse().ok()
    }

    fn token(&self, position: u64) -> String {
        format!("{}.{position}", self.boot_id)
    }

    async fn send(&self, what: What, resume_token: String) -> Result<(), Gone> {
        let reply = v1::WatchReply { what: Some(what), resume_token };
        self.replies.send(Ok(reply)).await.map_err(|_| Gone)
    }

    async fn lost(&self, why: &str) -> Result<(), Gone> {
        self.send(What::Lost(v1::Lost { message: why.to_owned() }), String::new()).await
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Gateway) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        self.control.read(read).await.map_err(|_| Gone)
    }

    /// Sends all objects as they are; returns the position from which changes
    /// follow: that of before the first, so that nothing is missed.
    async fn all(&self) -> Result<u64, Gone> {
        let position = self.read(|gateway| gateway.changes().head()).await?;
        for kind in &self.kinds {
            let mut request = v1::ListRequest { kind: (*kind).into(), page_size: PAGE, ..Default::default() };
            loop {
                let asked = request.clone();
                let page = self.read(move |gateway| gateway.list(&asked)).await?;
                // The token is from a reply, the kind exists.
                let Ok(page) = page else { break };
                for item in page.items {
                    self.send(What::Object(item), String::new()).await?;
                }
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
        }
        self.send(What::CaughtUp(v1::CaughtUp {}), self.token(position)).await?;
        Ok(position)
    }

    /// Sends changes from a position on; returns the position behind them.
    /// `None` if the position is lost.
    async fn changes(&self, position: u64) -> Result<Option<u64>, Gone> {
        let (kinds, events) = (self.kinds.clone(), self.events);
        let part = self
            .read(move |gateway| {
                let changes = gateway.changes().from(position, PART)?;
                let count = changes.len() as u64;
                Some((gather(gateway, changes, &kinds, events), count))
            })
            .await?;
        let Some((all, count)) = part else { return Ok(None) };
        let behind = position + count;
        let last = all.len();
        for (at, what) in all.into_iter().enumerate() {
            // One change can be several replies (of several controllers), and
            // several can be one: only the last says where to go on.
            let token = if at + 1 == last { self.token(behind) } else { String::new() };
            self.send(what, token).await?;
        }
        Ok(Some(behind))
    }
}

/// What changes are now; each object once.
fn gather(
    gateway: &Gateway,
    changes: Vec<Change>,
    kinds: &BTreeSet<v1::ObjectKind>,
    events: bool,
) -> Vec<What> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for change in changes {
        match change {
            Change::Event(event) if events => all.push(What::Event(event.as_ref().clone())),
            Change::Event(_) => {}
            Change::Object(key) => {
                if !kinds.contains(&kind_of(&key)) || !seen.insert(key.clone()) {
                    continue;
                }
                let message = v1::ObjectKey::from(&key);
                match gateway.get(&message, "") {
                    Ok(Some(item)) => all.push(What::Object(item)),
                    Ok(None) | Err(_) => all.push(What::Deleted(message)),
                }
            }
        }
    }
    all
}

fn kind_of(key: &Key) -> v1::ObjectKind {
    match key {
        Key::Port(_) => v1::ObjectKind::Port,
        Key::Interface(_) => v1::ObjectKind::Interface,
        Key::Vrf(_) => v1::ObjectKind::Vrf,
        Key::NextHop(_) => v1::ObjectKind::NextHop,
        Key::NextHopGroup(_) => v1::ObjectKind::NextHopGroup,
        Key::Route(..) => v1::ObjectKind::Route,
        Key::SecurityGroup(_) => v1::ObjectKind::SecurityGroup,
        Key::StaticRoute(..) => v1::ObjectKind::StaticRoute,
    }
}

/// Begins to follow what VRFs originate.
///
/// # Errors
/// When a name is none.
pub fn watch_exports(
    control: Control,
    request: v1::WatchExportsRequest,
) -> Result<mpsc::Receiver<Result<v1::WatchExportsReply, Status>>, Status> {
    let mut vrfs = BTreeSet::new();
    for name in request.vrfs {
        if !tieline_rib::Name::is_valid(&name) {
            let quoted = tieline_rib::spec::field::quoted(&name);
            return Err(Status::invalid_argument(format!("vrfs: {quoted} is no name")));
        }
        vrfs.insert(name);
    }
    let (replies, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        // Whoever has gone need not be told.
        let _ = follow_exports(control, vrfs, replies).await;
    });
    Ok(receiver)
}

type Exports = BTreeMap<(String, String), v1::Export>;

async fn follow_exports(
    control: Control,
    vrfs: BTreeSet<String>,
    replies: Replies<v1::WatchExportsReply>,
) -> Result<(), Gone> {
    let send = async |what: ExportWhat| {
        let reply = v1::WatchExportsReply { what: Some(what) };
        replies.send(Ok(reply)).await.map_err(|_| Gone)
    };
    let mut head = control.head();
    let mut sent = Exports::new();
    let mut is_first = true;
    let mut generation = None;
    loop {
        head.borrow_and_update();
        let (names, last) = (vrfs.clone(), generation);
        let now = control.read(move |gateway| {
            let generation = gateway.rib().exports_generation();
            (last != Some(generation)).then(|| (generation, gateway.exports(&names)))
        });
        if let Some((at, now)) = now.await.map_err(|_| Gone)? {
            generation = Some(at);
            let now: Exports =
                now.into_iter().map(|export| ((export.vrf.clone(), export.prefix.clone()), export)).collect();
            for (vrf, prefix) in sent.keys().filter(|key| !now.contains_key(*key)) {
                let key = v1::ExportKey { vrf: vrf.clone(), prefix: prefix.clone() };
                send(ExportWhat::Withdrawn(key)).await?;
            }
            for (key, export) in &now {
                if sent.get(key) != Some(export) {
                    send(ExportWhat::Export(export.clone())).await?;
                }
            }
            sent = now;
        }
        if std::mem::take(&mut is_first) {
            send(ExportWhat::CaughtUp(v1::CaughtUp {})).await?;
        }
        tokio::time::sleep(EXPORTS_PAUSE).await;
        tokio::select! {
            changed = head.changed() => changed.map_err(|_| Gone)?,
            () = replies.closed() => return Err(Gone),
        }
    }
}
