//! A RIB, its tables, and devices that open at once.

use tieline_engine::session::Allowance;
use tieline_engine::tables::Tables;
use tieline_engine::types::{MacAddr, PortId};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::spec::port::PortSpec;
use crate::{Applied, ControllerId, DeviceState, Limits, PortInfo, Ranks, Refusal, Rib, RibOptions};

/// A device of this name does not open.
pub const BROKEN: &str = "broken";

#[derive(Debug, Clone)]
pub struct World {
    pub rib: Rib,
    /// Who declares, unless a test says otherwise.
    pub by: ControllerId,
    pub tables: Tables,
}

impl Default for World {
    fn default() -> Self {
        Self::with(Limits::default())
    }
}

impl World {
    pub fn with(limits: Limits) -> Self {
        Self::ranked(limits, Ranks::default())
    }

    pub fn ranked(limits: Limits, ranks: Ranks) -> Self {
        let default_allowance = Allowance { quota: 1000, rate: 500 };
        let mut rib = Rib::new(limits, RibOptions { default_allowance, ranks, ..RibOptions::default() });
        let by = rib.controller("test").expect("the first controller");
        Self { rib, by, tables: Tables::default() }
    }

    /// Applies an object, and opens its device.
    pub fn apply(&mut self, kind: Kind) -> Result<Applied, Refusal> {
        let object = v1::Object { kind: Some(kind) };
        let outcome = self.rib.apply(self.by, object, &mut self.tables);
        self.open_devices();
        outcome
    }

    /// Opens all devices that are to be opened.
    pub fn open_devices(&mut self) {
        let opening = self.rib.declared_ports().filter(|port| *port.device == DeviceState::Opening);
        let opening: Vec<(PortId, PortSpec)> = opening.map(|port| (port.id, port.spec.clone())).collect();
        for (id, spec) in opening {
            if spec.device == BROKEN {
                self.rib.port_closed(id, "there is no such device".into(), &mut self.tables);
                continue;
            }
            let last = spec.device.bytes().last().unwrap_or(0);
            let info = PortInfo { mac: MacAddr([2, 0, 0, 0, 1, last]), mtu: spec.mtu };
            self.rib.port_opened(id, info, &mut self.tables);
        }
    }

    /// Applies what must be accepted.
    pub fn add(&mut self, kind: Kind) -> Applied {
        let text = format!("{kind:?}");
        self.apply(kind).unwrap_or_else(|refusal| panic!("{text} was refused: {refusal}"))
    }

    pub fn delete(&mut self, key: &v1::ObjectKey) -> Result<Applied, Refusal> {
        let outcome = self.rib.delete(self.by, key, &mut self.tables);
        // Another's declaration may have come in force.
        self.open_devices();
        outcome
    }

    /// Deletes what must be there.
    pub fn remove(&mut self, kind: &Kind) {
        let applied = self.delete(&key_of(kind)).expect("a valid key");
        assert!(applied.changed, "{kind:?} was not there");
    }

    pub fn status(&self, kind: &Kind) -> v1::ObjectStatus {
        self.rib.get(&key_of(kind), "").and_then(|item| item.status).expect("a declared object")
    }

    /// The entry of one prefix, as the operations API shows it.
    pub fn route(&self, vrf: &str, prefix: &str) -> Option<v1::RouteEntry> {
        let request = v1::ListRoutesRequest { vrf: vrf.into(), ..Default::default() };
        let reply = self.rib.routes(&request, &self.tables).expect("a VRF");
        reply.routes.into_iter().find(|route| route.prefix == prefix)
    }

    /// What one prefix leads to, in words; empty without an entry.
    pub fn via(&self, vrf: &str, prefix: &str) -> String {
        self.route(vrf, prefix).map(|route| route.via).unwrap_or_default()
    }

    pub fn generation(&self, vrf: &str) -> u32 {
        let id = self.rib.vrf_id(vrf).expect("a VRF");
        self.tables.vrfs.get(id.index()).expect("a table").generation
    }
}

pub fn key_of(kind: &Kind) -> v1::ObjectKey {
    use v1::object_key::Kind as Key;
    let key = match kind {
        Kind::Port(object) => Key::Port(object.name.clone()),
        Kind::Interface(object) => Key::Interface(object.name.clone()),
        Kind::Vrf(object) => Key::Vrf(object.name.clone()),
        Kind::NextHop(object) => Key::NextHop(object.name.clone()),
        Kind::NextHopGroup(object) => Key::NextHopGroup(object.name.clone()),
        Kind::Route(object) => {
            Key::Route(v1::RouteKey { rd: object.rd.clone(), prefix: object.prefix.clone() })
        }
        Kind::SecurityGroup(object) => Key::SecurityGroup(object.id),
        Kind::StaticRoute(object) => {
            Key::StaticRoute(v1::StaticRouteKey { vrf: object.vrf.clone(), prefix: object.prefix.clone() })
        }
    };
    v1::ObjectKey { kind: Some(key) }
}
