//! One batch of declarations, carried out in the RIB and the tables.
//!
//! In an atomic batch a refusal undoes everything: RIB and tables are copied
//! before and put back. Nobody has seen the tables meanwhile: they are published
//! after the batch. Routes alone can only be refused by a limit or by
//! themselves, which is looked at before, so that they need no copy.

use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;
use tieline_rib::{Applied, ControllerId, Refusal, Rib};

use crate::admission::Admission;
use crate::rights::Rights;

/// Most operations of a batch.
pub const MOST_OPERATIONS: usize = 10_000;

/// Bytes of the sentences that say why operations of one batch were refused.
/// Further ones are named without.
pub const REFUSED_TEXTS: usize = 1 << 20;

/// A batch and whose it is.
#[derive(Debug)]
pub struct Work {
    /// Who declares.
    pub by: ControllerId,
    /// What.
    pub batch: v1::Batch,
    /// What they may declare.
    pub rights: Rights,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq)]
pub struct Done {
    /// Operations that were refused.
    pub refused: Vec<v1::RefusedOperation>,
    /// Operations whose objects wait.
    pub waiting: Vec<v1::WaitingOperation>,
    /// Whether anything is different from before.
    pub changed: bool,
}

impl Done {
    fn refused(index: usize, refusal: Refusal) -> Self {
        let refused = vec![refused(index, refusal)];
        Self { refused, ..Self::default() }
    }
}

fn refused(index: usize, refusal: Refusal) -> v1::RefusedOperation {
    v1::RefusedOperation { index: index as u32, refused: Some(refusal.into()) }
}

/// Leaves the sentence of a refused operation out where it is longer than what is
/// left. Returns its length.
fn cut(refused: &mut v1::RefusedOperation, left: usize) -> usize {
    let Some(refused) = &mut refused.refused else { return 0 };
    if refused.field.len() + refused.message.len() > left {
        refused.field.clear();
        refused.message = "as others of this batch: too much is refused for a sentence each".to_owned();
        return 0;
    }
    refused.field.len() + refused.message.len()
}

/// Carries a batch out, as far as `admission` lets it. `counted` hears of
/// everything that begins to have counters.
pub fn carry_out(
    rib: &mut Rib,
    tables: &mut Tables,
    admission: Admission<'_>,
    by: ControllerId,
    batch: v1::Batch,
    counted: &dyn Fn(&Rib, Option<Counted>),
) -> Done {
    if let Err(refusal) = check(&batch) {
        return Done::refused(0, refusal);
    }
    match batch.mode() {
        v1::BatchMode::Each => each(rib, tables, admission, by, batch.operations, counted),
        v1::BatchMode::Atomic => atomic(rib, tables, admission, by, batch, counted),
    }
}

fn check(batch: &v1::Batch) -> Result<(), Refusal> {
    if !(1..=MOST_OPERATIONS).contains(&batch.operations.len()) {
        let sentence = format!("{} operations: a batch has 1 to {MOST_OPERATIONS}", batch.operations.len());
        return Err(Refusal::invalid("operations", sentence));
    }
    if v1::BatchMode::try_from(batch.mode).is_err() {
        return Err(Refusal::invalid("mode", format!("{} is no mode", batch.mode)));
    }
    if batch.require_references && batch.mode() != v1::BatchMode::Atomic {
        let sentence =
            "only an atomic batch can require references: in others each operation stands for itself";
        return Err(Refusal::invalid("require_references", sentence));
    }
    Ok(())
}

fn each(
    rib: &mut Rib,
    tables: &mut Tables,
    admission: Admission<'_>,
    by: ControllerId,
    operations: Vec<v1::Operation>,
    counted: &dyn Fn(&Rib, Option<Counted>),
) -> Done {
    let mut done = Done::default();
    let mut texts = 0;
    for (index, operation) in operations.into_iter().enumerate() {
        match one(rib, tables, admission, by, operation, counted) {
            Ok(applied) => {
                done.changed |= applied.changed;
                if !applied.waits_for.is_empty() {
                    let index = index as u32;
                    done.waiting.push(v1::WaitingOperation { index, waits_for: applied.waits_for });
                }
            }
            Err(refusal) => {
                let mut refused = refused(index, refusal);
                texts += cut(&mut refused, REFUSED_TEXTS.saturating_sub(texts));
                done.refused.push(refused);
            }
        }
    }
    // What came later in the batch is waited for no more.
    for waiting in &mut done.waiting {
        waiting.waits_for.retain(|key| !rib.is_declared(key));
    }
    done.waiting.retain(|waiting| !waiting.waits_for.is_empty());
    done
}

fn atomic(
    rib: &mut Rib,
    tables: &mut Tables,
    admission: Admission<'_>,
    by: ControllerId,
    batch: v1::Batch,
    counted: &dyn Fn(&Rib, Option<Counted>),
) -> Done {
    for (index, operation) in batch.operations.iter().enumerate() {
        let good = tieline_rib::spec::check_operation(operation).and_then(|()| admission.check(operation));
        if let Err(refusal) = good {
            return Done::refused(index, refusal);
        }
    }
    let copy = (batch.require_references || can_be_refused(rib, &batch.operations))
        .then(|| (rib.clone(), tables.clone()));
    let objects: Vec<v1::Operation> =
        if batch.require_references { batch.operations.clone() } else { Vec::new() };
    let mut done = each(rib, tables, admission, by, batch.operations, counted);
    done.refused.truncate(1);
    if done.refused.is_empty() {
        // What comes later in the batch is no longer waited for.
        done.refused.extend(missing(rib, &objects));
    }
    match copy {
        Some((rib_before, tables_before)) if !done.refused.is_empty() => {
            *rib = rib_before;
            *tables = tables_before;
            Done { refused: done.refused, ..Done::default() }
        }
        _ => done,
    }
}

/// Whether operations that are valid by themselves can be refused.
fn can_be_refused(rib: &Rib, operations: &[v1::Operation]) -> bool {
    let mut routes = 0_usize;
    for operation in operations {
        routes += match &operation.operation {
            Some(Operation::ApplyRoutes(set)) => {
                let prefixes = set.prefixes.as_ref();
                prefixes.map_or(0, v1::RoutePrefixes::count)
            }
            Some(Operation::Apply(v1::Object { kind: Some(Kind::Route(_)) })) => 1,
            Some(Operation::DeleteRoutes(_)) => 0,
            Some(Operation::Delete(v1::ObjectKey { kind: Some(v1::object_key::Kind::Route(_)) })) => 0,
            _ => return true,
        };
    }
    !rib.has_room_for_routes(routes)
}

/// The first operation whose object waits for another.
fn missing(rib: &Rib, operations: &[v1::Operation]) -> Option<v1::RefusedOperation> {
    operations.iter().enumerate().find_map(|(index, operation)| {
        let waits_for = match &operation.operation {
            Some(Operation::Apply(object)) => rib.waits_for_of(object),
            Some(Operation::ApplyRoutes(set)) => rib.waits_for_of_set(set),
            _ => Vec::new(),
        };
        (!waits_for.is_empty()).then(|| refused(index, Refusal::missing(&waits_for)))
    })
}

fn one(
    rib: &mut Rib,
    tables: &mut Tables,
    admission: Admission<'_>,
    by: ControllerId,
    operation: v1::Operation,
    counted: &dyn Fn(&Rib, Option<Counted>),
) -> Result<Applied, Refusal> {
    admission.check(&operation)?;
    match operation.operation {
        Some(Operation::Apply(object)) => {
            let new = Counted::new_in(rib, &object);
            let applied = rib.apply(by, object, tables)?;
            counted(rib, new);
            Ok(applied)
        }
        Some(Operation::Delete(key)) => rib.delete(by, &key, tables),
        Some(Operation::ApplyRoutes(set)) => rib.apply_routes(by, set, tables),
        Some(Operation::DeleteRoutes(key)) => rib.delete_route_set(by, &key, tables),
        None => Err(Refusal::invalid("operation", "no operation: set apply, delete or one for routes")),
    }
}

/// Something with counters of its own, by its name.
#[derive(Debug, PartialEq, Eq)]
pub enum Counted {
    /// An interface.
    Interface(String),
    /// A VRF.
    Vrf(String),
}

impl Counted {
    /// What an object declares, unless it is declared already. It will get a
    /// number that something else may have had before.
    pub fn new_in(rib: &Rib, object: &v1::Object) -> Option<Self> {
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
    use tieline_dpdk::Driver;
    use tieline_rib::{Limits, RibOptions};

    use super::*;
    use crate::device_ports::allowed::AllowedDevices;
    use tieline_gate::Role;

    struct World {
        rib: Rib,
        tables: Tables,
        by: ControllerId,
        rights: Rights,
    }

    impl World {
        fn new(limits: Limits) -> Self {
            let mut rib = Rib::new(limits, RibOptions::default());
            let by = rib.controller("c").expect("a name");
            Self { rib, tables: Tables::default(), by, rights: Rights::ALL }
        }

        fn batch(&mut self, mode: v1::BatchMode, strict: bool, operations: Vec<Operation>) -> Done {
            let operations =
                operations.into_iter().map(|one| v1::Operation { operation: Some(one) }).collect();
            let batch = v1::Batch { id: 1, mode: mode.into(), require_references: strict, operations };
            let allowed = AllowedDevices { test_drivers: vec![Driver::Null], ..AllowedDevices::default() };
            let admission = Admission { rights: &self.rights, devices: &allowed };
            carry_out(&mut self.rib, &mut self.tables, admission, self.by, batch, &|_, _| {})
        }

        fn atomic(&mut self, operations: Vec<Operation>) -> Done {
            self.batch(v1::BatchMode::Atomic, false, operations)
        }
    }

    fn apply(kind: Kind) -> Operation {
        Operation::Apply(v1::Object { kind: Some(kind) })
    }

    fn vrf(name: &str, label: u32) -> Operation {
        apply(Kind::Vrf(v1::Vrf { name: name.into(), label, ..Default::default() }))
    }

    fn port(name: &str, device: &str) -> Operation {
        apply(Kind::Port(v1::Port {
            name: name.into(),
            device: device.into(),
            role: v1::PortRole::Tenant.into(),
            ..Default::default()
        }))
    }

    fn delete(kind: v1::object_key::Kind) -> Operation {
        Operation::Delete(v1::ObjectKey { kind: Some(kind) })
    }

    fn route(prefix: &str, next_hop: &str) -> Operation {
        apply(Kind::Route(v1::Route {
            rd: "1:1".into(),
            prefix: prefix.into(),
            route_targets: vec!["1:1".into()],
            next_hop: next_hop.into(),
            ..Default::default()
        }))
    }

    fn index(done: &Done) -> Vec<u32> {
        done.refused.iter().map(|refused| refused.index).collect()
    }

    #[test]
    fn one_refusal_undoes_an_atomic_batch_and_only_itself_in_another() {
        let mut world = World::new(Limits::default());
        let bad = || vec![vrf("a", 100), port("p", "net_null0"), vrf("b", 100), vrf("c", 101)];
        let done = world.atomic(bad());
        assert_eq!((index(&done), done.changed), (vec![2], false));
        assert!(world.rib.vrf_id("a").is_none() && world.rib.port_id("p").is_none());
        assert_eq!((world.rib.held(world.by), world.tables.vrfs.len()), (0, Tables::default().vrfs.len()));
        let done = world.batch(v1::BatchMode::Each, false, bad());
        assert_eq!((index(&done), done.changed), (vec![2], true));
        assert!(world.rib.vrf_id("c").is_some() && world.rib.port_id("p").is_some());
    }

    #[test]
    fn what_an_undone_batch_withdrew_is_as_it_was() {
        let mut world = World::new(Limits::default());
        world.atomic(vec![port("p", "net_null0"), vrf("a", 100)]);
        let id = world.rib.port_id("p");
        let gone =
            vec![delete(v1::object_key::Kind::Port("p".into())), port("q", "net_null0"), vrf("b", 100)];
        assert_eq!(index(&world.atomic(gone)), [2]);
        assert_eq!((world.rib.port_id("p"), world.rib.port_id("q")), (id, None));
        let gone = vec![delete(v1::object_key::Kind::Port("p".into())), vrf("a", 0)];
        assert_eq!(index(&world.atomic(gone)), [0; 0]);
        assert!(world.rib.port_id("p").is_none());
    }

    #[test]
    fn required_references_may_come_later_in_the_batch() {
        let mut world = World::new(Limits::default());
        let next_hop = || {
            let target = Some(v1::next_hop::Target::Discard(v1::DiscardNextHop {}));
            apply(Kind::NextHop(v1::NextHop { name: "n".into(), target }))
        };
        let strict = |world: &mut World, operations| world.batch(v1::BatchMode::Atomic, true, operations);
        let done = strict(&mut world, vec![next_hop(), route("10.0.0.0/8", "m")]);
        assert_eq!(index(&done), [1]);
        let refused = done.refused[0].refused.clone().expect("a refusal");
        assert_eq!(refused.code(), v1::ErrorCode::MissingReference);
        assert!(refused.message.contains("next hop m"), "{}", refused.message);
        assert_eq!(world.rib.held(world.by), 0);
        let done = strict(&mut world, vec![route("10.0.0.0/8", "n"), next_hop()]);
        assert_eq!((index(&done), world.rib.held(world.by)), (Vec::new(), 2));
        assert!(done.waiting.is_empty(), "{done:?}");
        let done = world.batch(v1::BatchMode::Each, true, vec![next_hop()]);
        assert_eq!(done.refused[0].refused.as_ref().map(|r| r.field.as_str()), Some("require_references"));
    }

    #[test]
    fn routes_are_refused_together_at_a_limit() {
        let mut world = World::new(Limits { routes: 2, ..Limits::default() });
        let done =
            world.atomic(vec![route("10.0.0.0/8", "n"), route("11.0.0.0/8", "n"), route("12.0.0.0/8", "n")]);
        assert_eq!((index(&done), world.rib.held(world.by)), (vec![2], 0));
        let limit = done.refused[0].refused.as_ref().and_then(|refused| refused.limit.clone());
        assert_eq!(limit, Some(v1::Limit { name: "routes".into(), value: 2 }));
        let done = world.atomic(vec![route("10.0.0.0/8", "n"), route("11.0.0.1/8", "n")]);
        assert_eq!((index(&done), world.rib.held(world.by)), (vec![1], 0), "looked at before");
        assert_eq!(index(&world.atomic(vec![route("10.0.0.0/8", "n"), route("11.0.0.0/8", "n")])), [0; 0]);
    }

    #[test]
    fn s1_what_may_not_be_declared_is_refused_in_its_place_and_undoes_an_atomic_batch() {
        let mut world = World::new(Limits::default());
        let permission = |done: &Done| {
            let refused = done.refused[0].refused.clone().expect("a refusal");
            assert_eq!(refused.code(), v1::ErrorCode::Permission, "{refused:?}");
            refused.field
        };
        for device in [
            "net_failsafe0,exec(/bin/sh)",
            "net_pcap0,tx_pcap=/etc/passwd",
            "net_tap0,iface=x,remote=eth0",
            "eth0",
        ] {
            let mixed = || vec![vrf("a", 100), port("p", device), vrf("c", 101)];
            let done = world.atomic(mixed());
            assert_eq!((index(&done), permission(&done).as_str()), (vec![1], "port.device"));
            assert_eq!(world.rib.held(world.by), 0);
        }
        world.rights = Rights::new(Role::Controller, None);
        let done = world.batch(v1::BatchMode::Each, false, vec![vrf("a", 100), port("p", "net_null0")]);
        assert_eq!((index(&done), permission(&done).as_str()), (vec![1], "port"));
        assert_eq!(world.rib.held(world.by), 1);
        // What was declared may be withdrawn with less rights than that needed.
        world.rights = Rights::new(Role::Controller, Some([].into()));
        assert_eq!(index(&world.atomic(vec![delete(v1::object_key::Kind::Vrf("a".into()))])), [0; 0]);
        let set = v1::RouteSet {
            attributes: Some(v1::Route {
                rd: "1:1".into(),
                next_hop: "n".into(),
                route_targets: vec!["1:1".into()],
                ..Default::default()
            }),
            prefixes: Some(v1::RoutePrefixes { texts: vec!["10.0.0.0/8".into()], ..Default::default() }),
        };
        let done = world.atomic(vec![Operation::ApplyRoutes(set)]);
        assert_eq!(permission(&done), "route");
    }

    #[test]
    fn a_batch_without_operations_or_with_too_many_is_refused() {
        let mut world = World::new(Limits::default());
        assert_eq!(index(&world.atomic(Vec::new())), [0]);
        assert_eq!(index(&world.atomic(vec![vrf("a", 0); MOST_OPERATIONS + 1])), [0]);
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
        let by = rib.controller("test").expect("a name");
        for object in [&vrf, &interface] {
            rib.apply(by, object.clone(), &mut tables).expect("valid");
            assert_eq!(Counted::new_in(&rib, object), None, "the second time it keeps its number");
        }
        let key = v1::ObjectKey { kind: Some(v1::object_key::Kind::Interface("web".into())) };
        rib.delete(by, &key, &mut tables).expect("valid");
        assert_eq!((Counted::new_in(&rib, &vrf), Counted::new_in(&rib, &interface)), (None, web()));
    }
}
