//! Ports that are declared and in force, and whose devices are not open: they
//! were to change hands between two daemons, and did not open. They are opened
//! as soon as that works.

use std::time::{Duration, Instant};

use tieline_engine::types::PortId;
use tieline_rib::PortInfo;
use tieline_rib::spec::port::PortSpec;

use super::DevicePorts;
use crate::upgrade::socket::Process;

/// Time between two attempts at first: whoever has the device ends soon.
const SOON: Duration = Duration::from_millis(250);
/// How long that is expected.
const FOR_SOON: Duration = Duration::from_secs(30);
/// Time between two attempts later.
const LATER: Duration = Duration::from_secs(5);

/// A port without its device.
pub(super) struct Missing {
    spec: PortSpec,
    /// What the device was like, and has to be like again.
    info: PortInfo,
    why: String,
    since: Instant,
    next: Instant,
    /// Whoever has the device, if it is known. It is not opened before that has
    /// ended.
    holder: Option<Process>,
}

impl DevicePorts {
    /// A port has lost its device, for this reason.
    pub(super) fn lose(
        &mut self,
        id: PortId,
        spec: PortSpec,
        info: PortInfo,
        why: String,
        holder: Option<Process>,
    ) {
        tracing::error!(port = %spec.name, "the port is without its device, which is tried again: {why}");
        let now = Instant::now();
        self.missing.insert(id, Missing { spec, info, why, since: now, next: now + SOON, holder });
    }

    /// Ports without their devices, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.missing.values().map(|missing| (missing.spec.name.as_str(), missing.why.as_str()))
    }

    /// Why a port is without its device, if it is.
    pub fn why_missing(&self, id: PortId) -> Option<&str> {
        self.missing.get(&id).map(|missing| missing.why.as_str())
    }

    /// Tries to open one of the devices that are missing, whose turn it is.
    pub fn open_missing(&mut self, now: Instant) {
        let is_due = |missing: &Missing| {
            let waits = missing.holder.as_ref().is_some_and(Process::runs);
            missing.next <= now && !(waits && now < missing.since + FOR_SOON)
        };
        let Some(id) = self.missing.iter().find(|(_, missing)| is_due(missing)).map(|(id, _)| *id) else {
            return;
        };
        let Some(mut missing) = self.missing.remove(&id) else { return };
        let device = self.open_like(&missing.spec, missing.info);
        let attached =
            device.and_then(|device| self.attach(id, &missing.spec, device).map_err(anyhow::Error::msg));
        if let Err(error) = attached {
            let pause = if now < missing.since + FOR_SOON { SOON } else { LATER };
            missing.next = now + pause;
            missing.why = format!("{error:#}");
            self.missing.insert(id, missing);
        }
    }
}
