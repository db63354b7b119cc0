//! Directories, and the state of a store as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tieline_store::{Opened, Options, Record, Store, StoreError};

/// A directory of one test, removed with it.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tieline-store-it-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Options under which a small history goes through everything: merging, many
/// generations, synchronization.
pub fn small() -> Options {
    Options { sync_interval: Duration::from_millis(5), log_bytes: 2000, ..Options::default() }
}

/// A state: what each record is, and its value.
pub type State = BTreeMap<String, Vec<u8>>;

/// What a store holds.
pub fn state_of(store: &Store) -> Result<State, StoreError> {
    let mut state = State::new();
    store.load(&mut |record| insert(&mut state, record))?;
    Ok(state)
}

/// Adds a record to a state.
pub fn insert(state: &mut State, record: Record<'_>) -> Result<(), String> {
    let (name, value) = match record {
        Record::Meta { name, value } => (format!("meta {name}"), value.to_vec()),
        Record::Controller { number, value } => (format!("controller {number}"), value.to_vec()),
        Record::Label { vrf, label } => (format!("label {vrf}"), label.to_be_bytes().to_vec()),
        Record::Declaration { controller, key, value } => {
            (format!("declaration {controller} {}", key.escape_ascii()), value.to_vec())
        }
        Record::Attributes { number, value } => (format!("attributes {number}"), value.to_vec()),
        Record::Route { attributes, prefix, value } => {
            (format!("route {attributes} {prefix}"), value.to_vec())
        }
    };
    match state.insert(name, value) {
        None => Ok(()),
        Some(_) => Err("twice".into()),
    }
}

/// Opens a store that must be there, whole.
pub fn reopen(path: &Path, options: Options) -> Store {
    let (store, opened) = Store::open(path, options).expect("it can be opened");
    assert_eq!(opened, Opened::Restored { complete: true, migrated_from: None, salvaged: None });
    store
}

/// Copies the files of a store that nobody has.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("there is space");
    }
}
