//! What operators want: objects of a few kinds, read from files, checked as a
//! whole, compared.
//!
//! ```text
//!   files --located--> trees with places --fields (by schema)--> documents
//!                                                                   |
//!                       problems, all at once <--rules-- Intent <--over--- store
//! ```
//!
//! - [`kinds`]: the kinds, a file each; [`names`], [`addresses`], [`traffic`]:
//!   what they are made of
//! - [`read`]: files to documents; [`located`], [`schema`], [`fields`]: its steps
//! - [`rules`]: what must hold over all objects; [`problem`]: what is wrong
//! - [`topology`]: who exports to whom
//! - [`diff`]: what an intent has that another has not

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub mod addresses;
pub mod diff;
pub mod fields;
pub mod kinds;
pub mod located;
pub mod names;
pub mod problem;
pub mod read;
pub mod rules;
pub mod schema;
pub mod topology;
pub mod traffic;

#[cfg(test)]
pub(crate) mod testing;

use kinds::{Kind, KindOf, Spec};
use names::{Labels, Name, Reference};

/// The version of the kinds, as in a file's `apiVersion`.
pub const API_VERSION: &str = "tieline.io/v1";

/// Names an object: `Cluster/east`, `VirtualNetwork/default/red`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, if its kind has namespaces.
    pub namespace: Option<Name>,
    /// Its name.
    pub name: Name,
}

impl ObjectKey {
    /// Names an object of a kind; without a namespace, in the default one.
    pub fn new(kind: Kind, namespace: Option<Name>, name: Name) -> Self {
        let namespace = kind.is_namespaced().then(|| namespace.unwrap_or_else(Name::default_namespace));
        Self { kind, namespace, name }
    }

    /// Reads what `Display` writes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text
            .split_once('/')
            .ok_or_else(|| format!("{} has no kind: write KIND/NAME", names::quoted(text)))?;
        let reference: Reference = rest.parse()?;
        Ok(Self::new(kind.parse()?, reference.namespace, reference.name))
    }

    /// The name by which gateways know it: `default/red`.
    pub fn gateway_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.to_string(),
        }
    }

    /// What a reference in this object means.
    pub fn resolve(&self, kind: Kind, reference: &Reference) -> Self {
        let namespace = reference.namespace.clone().or_else(|| self.namespace.clone());
        Self::new(kind, namespace, reference.name.clone())
    }

    /// What a name in this object means, of a kind without namespaces.
    pub fn global(kind: Kind, name: &Name) -> Self {
        Self::new(kind, None, name.clone())
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.gateway_name())
    }
}

/// What every object has beside its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name; with kind and namespace the key.
    pub name: Name,
    /// Namespace; absent is `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// Labels, for selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "names::labels_schema")]
    pub labels: Labels,
}

/// A declared object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Labels.
    pub labels: Labels,
    /// What it says.
    pub spec: Spec,
}

impl Object {
    /// As in a file, all in one form: what is absent or as by default is left
    /// out, the namespace is there.
    pub fn to_document(&self, key: &ObjectKey) -> Value {
        let metadata = Metadata {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            labels: self.labels.clone(),
        };
        json!({
            "apiVersion": API_VERSION,
            "kind": key.kind.name(),
            "metadata": metadata,
            "spec": self.spec.to_value(),
        })
    }

    /// As [`Object::to_document`], without what must not be shown.
    pub fn to_shown_document(&self, key: &ObjectKey) -> Value {
        let mut document = self.to_document(key);
        if let Some(password) = document.pointer_mut("/spec/password") {
            *password = Value::String(kinds::peer::Secret::HIDDEN.to_owned());
        }
        document
    }
}

/// All objects that are declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    objects: BTreeMap<ObjectKey, Object>,
}

impl Intent {
    /// Declares an object; an earlier one with the key is replaced and returned.
    pub fn insert(&mut self, key: ObjectKey, object: Object) -> Option<Object> {
        self.objects.insert(key, object)
    }

    /// Takes an object away.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Object> {
        self.objects.remove(key)
    }

    /// An object.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    /// The spec of an object of a known kind.
    pub fn spec<T: KindOf>(&self, key: &ObjectKey) -> Option<&T> {
        self.objects.get(key).and_then(|object| T::of(&object.spec))
    }

    /// All objects, by key.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.objects.iter()
    }

    /// All objects of a kind, by key.
    pub fn all<T: KindOf + 'static>(&self) -> impl Iterator<Item = (&ObjectKey, &T)> {
        self.objects.iter().filter_map(|(key, object)| Some((key, T::of(&object.spec)?)))
    }

    /// The cluster with this name.
    pub fn cluster(&self, name: &Name) -> Option<&kinds::Cluster> {
        self.spec(&ObjectKey::global(Kind::Cluster, name))
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl FromIterator<(ObjectKey, Object)> for Intent {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, Object)>>(objects: I) -> Self {
        Self { objects: objects.into_iter().collect() }
    }
}
