//! What both sides of a take-over need of the gateway.

use anyhow::{Context as _, bail};
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_engine::transfer::{Names, Numbering};
use tieline_proto::v1;
use tieline_proto::v1::program_request::Operation;

use crate::control::BATCH;
use crate::device_ports::DevicePorts;
use crate::gateway::Gateway;

/// A gateway that is handed over, or taken.
pub trait Site {
    /// Gives every declared object to `object`.
    ///
    /// # Errors
    /// Those of `object`.
    fn declared(&self, object: &mut dyn FnMut(&v1::Object) -> anyhow::Result<()>) -> anyhow::Result<()>;

    /// Declares objects. Returns the version of the tables that holds them.
    ///
    /// # Errors
    /// When one is refused.
    fn declare(&mut self, objects: Vec<v1::Object>) -> anyhow::Result<u64>;

    /// Names of VRFs and interfaces, by number.
    fn names(&self) -> Names;

    /// The numbers that somebody else's names have here.
    fn numbering(&self, theirs: &Names) -> Numbering;

    /// The devices.
    fn devices(&mut self) -> &mut DevicePorts;

    /// The engine.
    fn workers(&self) -> &Engine<DpdkIo>;
}

/// All kinds, ports first: interfaces need them.
const KINDS: [v1::ObjectKind; 8] = [
    v1::ObjectKind::Port,
    v1::ObjectKind::Vrf,
    v1::ObjectKind::SecurityGroup,
    v1::ObjectKind::Interface,
    v1::ObjectKind::NextHop,
    v1::ObjectKind::NextHopGroup,
    v1::ObjectKind::StaticRoute,
    v1::ObjectKind::Route,
];

/// Objects that are read at once.
const PAGE: u32 = 10_000;

impl Site for Gateway {
    fn declared(&self, object: &mut dyn FnMut(&v1::Object) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for kind in KINDS {
            let mut request = v1::ListRequest { page_size: PAGE, ..Default::default() };
            request.set_kind(kind);
            loop {
                let page = self.list(&request).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
                for item in &page.items {
                    if let Some(declared) = &item.object {
                        object(declared)?;
                    }
                }
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
        }
        Ok(())
    }

    fn declare(&mut self, objects: Vec<v1::Object>) -> anyhow::Result<u64> {
        let mut objects = objects.into_iter().peekable();
        let mut version = 0;
        while objects.peek().is_some() {
            let operations = objects.by_ref().take(BATCH).map(|object| Some(Operation::Apply(object)));
            let (outcomes, newest) = self.carry_out(operations);
            version = newest;
            if let Some(refusal) = outcomes.into_iter().find_map(Result::err) {
                bail!("an object of the other daemon is refused: {refusal}");
            }
        }
        Ok(version)
    }

    fn names(&self) -> Names {
        Names {
            vrfs: self.rib().vrfs().map(|(name, id)| (id, name.to_owned())).collect(),
            interfaces: self.rib().interfaces().map(|(name, id)| (id, name.to_owned())).collect(),
        }
    }

    fn numbering(&self, theirs: &Names) -> Numbering {
        let mut numbering = Numbering::default();
        for (id, name) in &theirs.vrfs {
            if let Some(ours) = self.rib().vrf_id(name) {
                numbering.add_vrf(*id, ours);
            }
        }
        for (id, name) in &theirs.interfaces {
            if let Some(ours) = self.rib().interface_id(name) {
                numbering.add_interface(*id, ours);
            }
        }
        numbering
    }

    fn devices(&mut self) -> &mut DevicePorts {
        self.ports_mut()
    }

    fn workers(&self) -> &Engine<DpdkIo> {
        self.engine()
    }
}

/// Waits until every worker forwards by a version of the tables.
///
/// # Errors
/// When a worker does not take it.
pub fn wait_programmed(site: &dyn Site, version: u64) -> anyhow::Result<()> {
    let programmed = site.workers().wait_programmed(version, super::WORKER_PATIENCE);
    programmed.then_some(()).context("a worker does not take the new tables")
}
