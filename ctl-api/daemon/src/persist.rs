//! What is declared, kept in the store and brought back from it.
//!
//! Everything is written in the words of the API: messages as bytes. Numbers of
//! controllers and of routes' attributes stay what they were.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use prost::Message as _;
use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_rib::persist::Copy;
use tieline_rib::{ControllerId, Key, Refusal, Rib, RouteDistinguisher};
use tieline_store::{Changes, Record, Store, StoreError};

use crate::sessions::Terms;

/// Routes that are brought back together.
const TOGETHER: usize = 8192;

/// Changes on their way to the store.
#[derive(Debug, Default)]
pub struct ToStore {
    changes: Changes,
    /// They are everything that is declared.
    whole: bool,
    /// The store that they, and all later ones, go into, if it is another.
    store: Option<Box<Store>>,
}

impl ToStore {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.whole && self.store.is_none()
    }

    /// None yet, to be put in the place of whatever is stored.
    pub fn everything() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// They, and all later ones, go into this store.
    pub fn into_store(self, store: Store) -> Self {
        Self { store: Some(Box::new(store)), ..self }
    }

    /// The store that they, and all later ones, go into, if it is another.
    pub fn take_store(&mut self) -> Option<Store> {
        self.store.take().map(|store| *store)
    }

    /// Whether they are everything that is declared.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Writes them.
    ///
    /// # Errors
    /// When the store does not take them; it is as it was.
    pub fn write_to(mut self, store: &Store) -> Result<(), StoreError> {
        if self.whole { store.replace_all(&mut self.changes) } else { store.write(&mut self.changes) }
    }

    /// What a controller is: its name, and what has to be known of it before it
    /// comes back.
    pub fn controller(&mut self, by: ControllerId, name: &str, terms: &Terms) {
        self.changes.put_controller(by.0, &controller_value(name, terms));
    }

    /// A controller is forgotten.
    pub fn no_controller(&mut self, by: ControllerId) {
        self.changes.remove_controller(by.0);
    }
}

/// A controller in the store. The numbers of its first fields are those of
/// `ControllerHello`, which stood there before.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredController {
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint32, optional, tag = "5")]
    grace_seconds: Option<u32>,
    #[prost(bool, tag = "8")]
    lasting: bool,
    /// Absent in what earlier releases wrote, which let everybody declare
    /// whatever they liked: that stays.
    #[prost(bool, optional, tag = "100")]
    operator: Option<bool>,
    /// Absent in what earlier releases wrote.
    #[prost(string, tag = "101")]
    owner: String,
}

/// What is kept of a controller.
pub fn controller_value(name: &str, terms: &Terms) -> Vec<u8> {
    let stored = StoredController {
        name: name.to_owned(),
        term: terms.term,
        grace_seconds: Some(u32::try_from(terms.grace.as_secs()).unwrap_or(u32::MAX)),
        lasting: terms.lasting,
        operator: Some(terms.operator),
        owner: terms.owner.clone(),
    };
    stored.encode_to_vec()
}

/// What is kept of routes' attributes: the controller's number, and the rest.
pub fn attributes_value(by: ControllerId, route: &v1::Route) -> Vec<u8> {
    let mut bytes = by.0.to_be_bytes().to_vec();
    bytes.extend(route.encode_to_vec());
    bytes
}

impl Copy for ToStore {
    fn attributes(&mut self, number: u32, shared: Option<(ControllerId, v1::Route)>) {
        match shared {
            Some((by, route)) => {
                self.changes.put_attributes(number, &attributes_value(by, &route));
            }
            None => self.changes.remove_attributes(number),
        }
    }

    fn path(&mut self, attributes: u32, _: RouteDistinguisher, prefix: IpNet) {
        self.changes.add_route(attributes, prefix, &[]);
    }

    fn no_path(&mut self, attributes: u32, _: RouteDistinguisher, prefix: IpNet) {
        self.changes.remove_route(attributes, prefix);
    }

    fn label(&mut self, vrf: &str, label: Option<u32>) {
        match label {
            Some(label) => self.changes.put_label(vrf, label),
            None => self.changes.remove_label(vrf),
        }
    }

    fn declaration(&mut self, by: ControllerId, key: &Key, object: Option<Kind>) {
        let key = v1::ObjectKey::from(key).encode_to_vec();
        match object {
            Some(kind) => {
                let object = v1::Object { kind: Some(kind) }.encode_to_vec();
                self.changes.put_declaration(by.0, &key, &object);
            }
            None => self.changes.remove_declaration(by.0, &key),
        }
    }
}

/// A controller as it was.
#[derive(Debug)]
pub struct Remembered {
    /// Its number.
    pub by: ControllerId,
    /// What was known of it.
    pub terms: Terms,
}

/// What a store brought back.
#[derive(Debug, Default)]
pub struct Restored {
    /// Controllers.
    pub controllers: Vec<Remembered>,
    /// Objects, routes apart.
    pub objects: usize,
    /// Routes.
    pub routes: usize,
}

/// Brings everything back into an empty RIB, record by record. Objects are declared
/// last: static routes take numbers of attributes, and those of VPN paths are kept.
#[derive(Debug, Default)]
pub struct Restoring {
    restored: Restored,
    declarations: BTreeMap<ControllerId, BTreeMap<Vec<u8>, Kind>>,
    routes: Routes,
}

impl Restoring {
    /// Takes a record. Controllers come before what they declare, attributes
    /// before their routes.
    ///
    /// # Errors
    /// A sentence that says why there can be no such record; the RIB is then good
    /// for nothing.
    pub fn take(&mut self, record: Record<'_>, rib: &mut Rib, tables: &mut Tables) -> Result<(), String> {
        match record {
            Record::Controller { number, value } => {
                let stored = StoredController::decode(value).map_err(|error| error.to_string())?;
                let by = rib.restore_controller(number, &stored.name).map_err(words)?;
                let terms = Terms {
                    term: stored.term,
                    grace: Duration::from_secs(u64::from(stored.grace_seconds())),
                    lasting: stored.lasting,
                    operator: stored.operator.unwrap_or(true),
                    owner: stored.owner,
                };
                self.restored.controllers.push(Remembered { by, terms });
            }
            Record::Declaration { controller, key, value } => {
                let object = v1::Object::decode(value).map_err(|error| error.to_string())?;
                let kind = object.kind.ok_or("an object without a kind")?;
                let by = ControllerId(controller);
                if rib.controller_name(by).is_empty() {
                    return Err("a declaration of an unknown controller".to_owned());
                }
                self.declarations.entry(by).or_default().insert(key.to_vec(), kind);
            }
            Record::Attributes { number, value } => {
                let (by, route) = value.split_first_chunk().ok_or("attributes that are cut off")?;
                let by = ControllerId(u16::from_be_bytes(*by));
                let route = v1::Route::decode(route).map_err(|error| error.to_string())?;
                rib.restore_attributes(number, by, route, tables).map_err(words)?;
            }
            Record::Route { attributes, prefix, .. } => {
                self.restored.routes += 1;
                self.routes.add(attributes, prefix, rib)?;
            }
            Record::Label { vrf, label } => rib.restore_label(vrf, label).map_err(words)?,
            Record::Meta { .. } => {}
        }
        Ok(())
    }

    /// That was the last record.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn finish(mut self, rib: &mut Rib, tables: &mut Tables) -> Result<Restored, String> {
        self.routes.finish(rib)?;
        declare(std::mem::take(&mut self.declarations), rib, tables, &mut self.restored)?;
        rib.finish_restore(tables);
        for controller in &self.restored.controllers {
            if controller.terms.lasting {
                rib.refresh(controller.by, tables);
            }
        }
        Ok(self.restored)
    }
}

/// Those of controllers that count before others come first: what is in force
/// does not have to give way again.
fn declare(
    mut declarations: BTreeMap<ControllerId, BTreeMap<Vec<u8>, Kind>>,
    rib: &mut Rib,
    tables: &mut Tables,
    restored: &mut Restored,
) -> Result<(), String> {
    let in_order = rib.by_precedence().into_iter().filter_map(|by| Some((by, declarations.remove(&by)?)));
    let in_order: Vec<_> = in_order.collect();
    for (by, kind) in in_order.into_iter().flat_map(|(by, all)| all.into_values().map(move |kind| (by, kind)))
    {
        restored.objects += 1;
        match rib.restore_declaration(by, kind, tables) {
            Ok(()) => {}
            Err(refusal) if refusal.code == v1::ErrorCode::LimitReached => {
                // The configuration has become smaller.
                tracing::error!("not brought back: {refusal}");
            }
            Err(refusal) => return Err(words(refusal)),
        }
    }
    Ok(())
}

fn words(refusal: Refusal) -> String {
    refusal.to_string()
}

/// Routes on their way into the RIB, those with the same attributes together.
#[derive(Debug, Default)]
struct Routes {
    attributes: u32,
    prefixes: Vec<IpNet>,
}

impl Routes {
    fn add(&mut self, attributes: u32, prefix: IpNet, rib: &mut Rib) -> Result<(), String> {
        if attributes != self.attributes || self.prefixes.len() >= TOGETHER {
            self.finish(rib)?;
            self.attributes = attributes;
        }
        self.prefixes.push(prefix);
        Ok(())
    }

    fn finish(&mut self, rib: &mut Rib) -> Result<(), String> {
        if self.prefixes.is_empty() {
            return Ok(());
        }
        match rib.restore_paths(self.attributes, &self.prefixes) {
            Err(refusal) if refusal.code == v1::ErrorCode::LimitReached => {
                // The configuration has become smaller.
                tracing::error!(routes = self.prefixes.len(), "not brought back: {refusal}");
            }
            other => other.map_err(words)?,
        }
        self.prefixes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tieline_rib::{Limits, RibOptions};

    use super::*;

    #[test]
    fn controllers_of_earlier_releases_are_read() {
        let hello = v1::ControllerHello {
            controller: "ctl-a".into(),
            term: 7,
            grace_seconds: Some(60),
            lasting: true,
            ..Default::default()
        };
        let stored = StoredController::decode(hello.encode_to_vec().as_slice()).expect("the same numbers");
        assert_eq!((stored.name.as_str(), stored.term, stored.grace_seconds), ("ctl-a", 7, Some(60)));
        assert!(stored.lasting && stored.operator.is_none() && stored.owner.is_empty());
        let grace = Duration::from_secs(60);
        let terms = Terms { term: 7, grace, lasting: true, operator: false, owner: "uid 7".to_owned() };
        let value = controller_value("ctl-a", &terms);
        let again = v1::ControllerHello::decode(value.as_slice()).expect("they can read it, too");
        assert_eq!((again.controller, again.term, again.lasting), (hello.controller, 7, true));
    }

    /// Static routes took the numbers of VPN paths' attributes, and the whole state
    /// was set aside as damaged.
    #[test]
    fn static_routes_and_vpn_paths_come_back_beside_each_other() {
        let kinds = |vpn: u32, statics: u32| {
            let vpn = (0..vpn).map(|med| {
                Kind::Route(v1::Route {
                    rd: "64512:1".into(),
                    prefix: format!("10.{med}.0.0/16"),
                    route_targets: vec!["64512:1".into()],
                    next_hop: "n".into(),
                    med,
                    ..Default::default()
                })
            });
            let statics = (0..statics).map(|number| {
                Kind::StaticRoute(v1::StaticRoute {
                    vrf: "red".into(),
                    prefix: format!("10.{number}.1.0/24"),
                    next_hop: format!("n{number}"),
                    ..Default::default()
                })
            });
            vpn.chain(statics).collect::<Vec<_>>()
        };
        let (mut rib, mut tables) = (Rib::new(Limits::default(), RibOptions::default()), Tables::default());
        let by = rib.controller("a").expect("a name");
        for kind in kinds(3, 3) {
            rib.apply(by, v1::Object { kind: Some(kind) }, &mut tables).expect("valid");
        }
        let directory = std::env::temp_dir().join(format!("tieline-persist-{}", std::process::id()));
        let (store, _) = Store::open(&directory, tieline_store::Options::default()).expect("a store");
        let mut changes = ToStore::everything();
        let terms = Terms {
            term: 0,
            grace: Duration::from_secs(60),
            lasting: true,
            operator: true,
            owner: String::new(),
        };
        changes.controller(by, "a", &terms);
        rib.write_all(&mut changes);
        changes.write_to(&store).expect("it is written");

        let (mut again, mut tables) = (Rib::new(Limits::default(), RibOptions::default()), Tables::default());
        let mut restoring = Restoring::default();
        store.load(&mut |record| restoring.take(record, &mut again, &mut tables)).expect("whole records");
        let restored = restoring.finish(&mut again, &mut tables).expect("a whole state");
        assert_eq!((restored.objects, restored.routes), (3, 3));
        assert_eq!(again.held(by), 6);
        drop(store);
        std::fs::remove_dir_all(directory).expect("it is there");
    }
}
