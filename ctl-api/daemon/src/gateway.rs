//! The one owner of what is declared, of the tables made from it, and of the
//! devices.

use prost::Message as _;
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_proto::v1::program_request::Operation;
use tieline_rib::spec::port::PortSpec;
use tieline_rib::{Applied, Refusal, Rib};

use crate::device_ports::DevicePorts;

/// Bytes of a page of objects, so that a reply stays below the 4 MiB that
/// gRPC clients accept.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// Declared objects, forwarding tables and devices, kept in step.
pub struct Gateway {
    rib: Rib,
    ports: DevicePorts,
    engine: Engine<DpdkIo>,
}

impl Gateway {
    /// A gateway without any object.
    pub fn new(rib: Rib, ports: DevicePorts, engine: Engine<DpdkIo>) -> Self {
        Self { rib, ports, engine }
    }

    /// Carries out operations in their order and publishes what they change,
    /// once. Returns what became of each, and the version of the tables that
    /// holds them all. Devices open before the tables are locked, and close
    /// after.
    pub fn carry_out(
        &mut self,
        operations: impl Iterator<Item = Option<Operation>>,
    ) -> (Vec<Result<Applied, Refusal>>, u64) {
        let (rib, ports, engine) = (&mut self.rib, &mut self.ports, &self.engine);
        let operations: Vec<_> = operations.collect();
        for spec in operations.iter().filter_map(|operation| port_to_open(rib, operation.as_ref()?)) {
            ports.prepare(spec);
        }
        let outcomes = engine.update_if(|tables| {
            let one = |operation| one(rib, ports, engine, tables, operation);
            let outcomes: Vec<_> = operations.into_iter().map(one).collect();
            let changed = outcomes.iter().flatten().any(|applied| applied.changed);
            (outcomes, changed)
        });
        ports.finish();
        outcomes
    }

    /// One object and its status.
    ///
    /// # Errors
    /// When there can be no such key.
    pub fn get(&self, key: &v1::ObjectKey) -> Result<Option<v1::ObjectWithStatus>, Refusal> {
        // Such a key can have no object; the refusal says why.
        tieline_rib::Key::parse(key)?;
        Ok(self.rib.get(key).map(|item| self.with_link(item)))
    }

    /// A page of objects; a short one if the objects are large.
    ///
    /// # Errors
    /// When kind or token are not valid.
    pub fn list(&self, request: &v1::ListRequest) -> Result<v1::ListReply, Refusal> {
        let mut page_size = request.page_size;
        loop {
            let reply = self.rib.list(request.kind(), page_size, &request.page_token)?;
            let items = reply.items.len() as u32;
            if items > 1 && reply.encoded_len() > MAX_PAGE_BYTES {
                page_size = items / 2;
                continue;
            }
            let items = reply.items.into_iter().map(|item| self.with_link(item)).collect();
            return Ok(v1::ListReply { items, ..reply });
        }
    }

    /// A page of forwarding entries.
    ///
    /// # Errors
    /// When VRF, address or token are not valid.
    pub fn routes(&self, request: &v1::ListRoutesRequest) -> Result<v1::ListRoutesReply, Refusal> {
        let tables = self.engine.snapshot();
        let mut request = request.clone();
        loop {
            let reply = self.rib.routes(&request, &tables)?;
            let routes = reply.routes.len() as u32;
            if routes <= 1 || reply.encoded_len() <= MAX_PAGE_BYTES {
                return Ok(reply);
            }
            request.page_size = routes / 2;
        }
    }

    /// What is declared.
    pub fn rib(&self) -> &Rib {
        &self.rib
    }

    /// The devices.
    pub fn ports(&self) -> &DevicePorts {
        &self.ports
    }

    /// The devices, to hand them over or take them.
    pub fn ports_mut(&mut self) -> &mut DevicePorts {
        &mut self.ports
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<DpdkIo> {
        &self.engine
    }

    /// The RIB does not know about links: a port that is ready otherwise is
    /// degraded while it has none.
    fn with_link(&self, mut item: v1::ObjectWithStatus) -> v1::ObjectWithStatus {
        let Some(v1::object::Kind::Port(port)) = item.object.as_ref().and_then(|object| object.kind.as_ref())
        else {
            return item;
        };
        let down = self.rib.port_id(&port.name).is_some_and(|id| !self.ports.link_up(id));
        if let Some(status) =
            item.status.as_mut().filter(|status| down && status.state() == v1::ObjectState::Ready)
        {
            status.set_state(v1::ObjectState::Degraded);
            status.message = format!("the link of {} is down", port.device);
        }
        item
    }
}

/// The port that an operation opens, if it is the first to be carried out.
fn port_to_open(rib: &Rib, operation: &Operation) -> Option<PortSpec> {
    match operation {
        Operation::Apply(v1::Object { kind: Some(v1::object::Kind::Port(port)) }) => rib.port_to_open(port),
        _ => None,
    }
}

fn one(
    rib: &mut Rib,
    ports: &mut DevicePorts,
    engine: &Engine<DpdkIo>,
    tables: &mut Tables,
    operation: Option<Operation>,
) -> Result<Applied, Refusal> {
    match operation {
        Some(Operation::Apply(object)) => {
            let new = Counted::new_in(rib, &object);
            let applied = rib.apply(object, tables, ports)?;
            match new {
                Some(Counted::Interface(name)) => {
                    if let Some(id) = rib.interface_id(&name) {
                        engine.restart_interface(id);
                    }
                }
                Some(Counted::Vrf(name)) => {
                    if let Some(id) = rib.vrf_id(&name) {
                        engine.restart_vrf(id);
                    }
                }
                None => {}
            }
            Ok(applied)
        }
        Some(Operation::Delete(key)) => rib.delete(&key, tables, ports),
        None => Err(Refusal::invalid("operation", "no operation: set apply or delete")),
    }
}

/// Something with counters of its own, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Counted {
    Interface(String),
    Vrf(String),
}

impl Counted {
    /// What an object declares, unless it is declared already. It will get a
    /// number that something else may have had before.
    fn new_in(rib: &Rib, object: &v1::Object) -> Option<Self> {
        match object.kind.as_ref()? {
            v1::object::Kind::Interface(interface) => {
                rib.interface_id(&interface.name).is_none().then(|| Self::Interface(interface.name.clone()))
            }
            v1::object::Kind::Vrf(vrf) => {
                rib.vrf_id(&vrf.name).is_none().then(|| Self::Vrf(vrf.name.clone()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tieline_engine::types::PortId;
    use tieline_rib::{Limits, PortInfo, Ports, RibOptions};

    use super::*;

    struct NoPorts;

    impl Ports for NoPorts {
        fn open(&mut self, _: PortId, spec: &PortSpec) -> Result<PortInfo, String> {
            Err(format!("{} does not open", spec.device))
        }

        fn close(&mut self, _: PortId) {}
    }

    #[test]
    fn what_is_declared_anew_is_counted_anew() {
        let vrf = v1::Vrf { name: "red".into(), ..Default::default() };
        let interface =
            v1::Interface { name: "web".into(), port: "p".into(), vrf: "red".into(), ..Default::default() };
        let vrf = v1::Object { kind: Some(v1::object::Kind::Vrf(vrf)) };
        let interface = v1::Object { kind: Some(v1::object::Kind::Interface(interface)) };
        let red = || Some(Counted::Vrf("red".into()));
        let web = || Some(Counted::Interface("web".into()));

        let mut rib = Rib::new(Limits::default(), RibOptions::default());
        let mut tables = Tables::default();
        assert_eq!((Counted::new_in(&rib, &vrf), Counted::new_in(&rib, &interface)), (red(), web()));
        for object in [&vrf, &interface] {
            rib.apply(object.clone(), &mut tables, &mut NoPorts).expect("valid");
            assert_eq!(Counted::new_in(&rib, object), None, "the second time it keeps its number");
        }
        let key = v1::ObjectKey { kind: Some(v1::object_key::Kind::Interface("web".into())) };
        rib.delete(&key, &mut tables, &mut NoPorts).expect("valid");
        assert_eq!((Counted::new_in(&rib, &vrf), Counted::new_in(&rib, &interface)), (None, web()));
    }
}
