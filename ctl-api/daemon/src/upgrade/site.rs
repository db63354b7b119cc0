//! What both sides of a take-over need of the gateway.

use std::time::Instant;

use anyhow::Context as _;
use ipnet::IpNet;
use prost::Message as _;
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_engine::transfer::{Names, Numbering};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_rib::persist::Copy;
use tieline_rib::{ControllerId, Key, RouteDistinguisher};
use tieline_store::Record;

use crate::device_ports::DevicePorts;
use crate::gateway::Gateway;
use crate::persist;
use crate::upgrade::records;

/// What the RIB says, as records.
struct Records<'a> {
    each: &'a mut dyn FnMut(Record<'_>) -> anyhow::Result<()>,
    /// The first error; nothing is said after it.
    result: anyhow::Result<()>,
}

impl Records<'_> {
    fn say(&mut self, record: Record<'_>) {
        if self.result.is_ok() {
            self.result = (self.each)(record);
        }
    }
}

impl Copy for Records<'_> {
    fn attributes(&mut self, number: u32, shared: Option<(ControllerId, v1::Route)>) {
        if let Some((by, route)) = shared {
            self.say(Record::Attributes { number, value: &persist::attributes_value(by, &route) });
        }
    }

    fn path(&mut self, attributes: u32, _: RouteDistinguisher, prefix: IpNet) {
        self.say(Record::Route { attributes, prefix, value: &[] });
    }

    fn no_path(&mut self, _: u32, _: RouteDistinguisher, _: IpNet) {}

    fn label(&mut self, vrf: &str, label: Option<u32>) {
        if let Some(label) = label {
            self.say(Record::Label { vrf, label });
        }
    }

    fn declaration(&mut self, by: ControllerId, key: &Key, object: Option<Kind>) {
        let Some(kind) = object else { return };
        let key = v1::ObjectKey::from(key).encode_to_vec();
        let value = v1::Object { kind: Some(kind) }.encode_to_vec();
        self.say(Record::Declaration { controller: by.0, key: &key, value: &value });
    }
}

/// A gateway that is handed over, or taken.
pub trait Site {
    /// Gives everything that is declared to `each`, controllers before what they
    /// declare, attributes before their routes.
    ///
    /// # Errors
    /// Those of `each`.
    fn declared(&self, each: &mut dyn FnMut(Record<'_>) -> anyhow::Result<()>) -> anyhow::Result<()>;

    /// Declares what these records say. Returns the version of the tables that
    /// holds it.
    ///
    /// # Errors
    /// When there can be no such record.
    fn declare(&mut self, records: &[Vec<u8>]) -> anyhow::Result<u64>;

    /// What controllers know the gateway by.
    fn node(&self) -> String;

    /// What controllers know the other daemon's gateway by; empty: it does not
    /// say.
    fn set_node(&mut self, node: String);

    /// Names of VRFs and interfaces, by number.
    fn names(&self) -> Names;

    /// The numbers that somebody else's names have here.
    fn numbering(&self, theirs: &Names) -> Numbering;

    /// The devices.
    fn devices(&mut self) -> &mut DevicePorts;

    /// The engine.
    fn workers(&self) -> &Engine<DpdkIo>;
}

impl Site for Gateway {
    fn declared(&self, each: &mut dyn FnMut(Record<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        for (name, by) in self.rib().controllers() {
            if let Some(terms) = self.sessions().terms(by) {
                let value = persist::controller_value(name, terms);
                each(Record::Controller { number: by.0, value: &value })?;
            }
        }
        let mut records = Records { each, result: Ok(()) };
        self.write_declared(&mut records);
        records.result
    }

    fn declare(&mut self, records: &[Vec<u8>]) -> anyhow::Result<u64> {
        let (restored, version) = self
            .restore_from(Instant::now(), |take| {
                for bytes in records {
                    take(records::decode(bytes).ok_or("a record that is damaged")?)?;
                }
                Ok(())
            })
            .map_err(|why| anyhow::anyhow!("what the other daemon has declared cannot be: {why}"))?;
        tracing::info!(objects = restored.objects, routes = restored.routes, "declared");
        Ok(version)
    }

    fn node(&self) -> String {
        Gateway::node(self).text()
    }

    fn set_node(&mut self, node: String) {
        if !node.is_empty() {
            Gateway::node(self).set(node);
        }
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
