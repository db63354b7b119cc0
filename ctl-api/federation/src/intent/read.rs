//! Files to documents: YAML with one or several documents, or JSON (which is
//! YAML too). All problems of all files are found at once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields;
use super::kinds::{Kind, Spec};
use super::located::{Content, Node};
use super::problem::{Place, Problem, Rule};
use super::schema;
use super::{Intent, Metadata, Object, ObjectKey};

/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// Longest namespace and name together: gateways take names of 63 characters.
const MAX_GATEWAY_NAME: usize = 63;

/// A file that was read from somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, for messages.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// The objects of some files.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    objects: BTreeMap<ObjectKey, Object>,
    sources: BTreeMap<ObjectKey, Source>,
}

/// Where an object was read.
#[derive(Debug, Clone)]
struct Source {
    file: String,
    tree: Node,
}

impl Documents {
    /// Reads files.
    ///
    /// # Errors
    /// All that is wrong with any of them.
    pub fn read(files: &[File]) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading::default();
        files.iter().for_each(|file| reading.file(file));
        if reading.problems.is_empty() { Ok(reading.documents) } else { Err(reading.problems) }
    }

    /// The objects, by key.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.objects.iter()
    }

    /// Whether an object is among them.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.objects.contains_key(key)
    }

    /// The objects alone.
    pub fn into_intent(self) -> Intent {
        self.objects.into_iter().collect()
    }

    /// Adds to each problem where its field stands, if it stands in a file.
    pub fn place(&self, problems: &mut [Problem]) {
        for problem in problems.iter_mut().filter(|problem| problem.place.is_none()) {
            if let Some(source) = problem.object.as_ref().and_then(|key| self.sources.get(key)) {
                let position = source.tree.locate(&problem.field);
                problem.place = Some(Place { file: source.file.clone(), position });
            }
        }
        problems.sort_by(|a, b| a.place.cmp(&b.place));
    }

    /// Where an object stands.
    fn place_of(&self, key: &ObjectKey) -> Option<Place> {
        let source = self.sources.get(key)?;
        Some(Place { file: source.file.clone(), position: source.tree.position })
    }
}

#[derive(Default)]
struct Reading {
    documents: Documents,
    problems: Vec<Problem>,
}

impl Reading {
    fn file(&mut self, file: &File) {
        if file.text.len() > MAX_FILE_BYTES {
            let reason = format!("is larger than {} MiB", MAX_FILE_BYTES >> 20);
            self.report(&file.name, None, None, "", Rule::Syntax, reason, "split it");
            return;
        }
        let options = serde_saphyr::options! {
            // The file's size is limited above. What a file can make larger than
            // itself, aliases and nesting, keeps its limits.
            budget: serde_saphyr::budget! {
                max_events: usize::MAX,
                max_documents: usize::MAX,
                max_nodes: usize::MAX,
                max_total_scalar_bytes: usize::MAX,
            },
            strict_booleans: true,
            with_snippet: false,
        };
        let mut source = file.text.as_bytes();
        for document in serde_saphyr::read_with_options::<_, Node>(&mut source, options) {
            match document {
                Ok(Node { content: Content::Null, .. }) => {}
                Ok(node) => self.document(&file.name, node),
                Err(error) => {
                    let position = error.location().map(Into::into);
                    let reason = format!("cannot be read as YAML: {}", one_line(&error));
                    self.report(&file.name, position, None, "", Rule::Syntax, reason, "");
                }
            }
        }
    }

    fn document(&mut self, file: &str, node: Node) {
        let Some(kind) = self.kind(file, &node) else { return };
        let key = key_of(&node, kind);
        let wrong = fields::check(&node, schema::of(kind));
        if !wrong.is_empty() {
            for field in wrong {
                let fields::WrongField { position, path, reason, remedy } = field;
                self.report(file, Some(position), key.clone(), &path, Rule::Field, reason, &remedy);
            }
            return;
        }
        match decode(&node, kind) {
            Ok((key, object)) => self.insert(file, node, key, object),
            Err((path, reason)) => {
                let position = node.locate(path);
                self.report(file, Some(position), key, path, Rule::Field, reason, "");
            }
        }
    }

    fn kind(&mut self, file: &str, node: &Node) -> Option<Kind> {
        let Content::Map(_) = &node.content else {
            let reason = format!(
                "a document is a mapping of apiVersion, kind, metadata and spec, not {}",
                node.name()
            );
            self.report(file, Some(node.position), None, "", Rule::Field, reason, "");
            return None;
        };
        let (position, reason) = match node.member("kind") {
            None => (node.position, "is missing".to_owned()),
            Some(member) => match &member.value.content {
                // Exactly as it is called: a file is read by other programs too.
                Content::Text(text) => match Kind::ALL.iter().find(|kind| kind.name() == text) {
                    Some(kind) => return Some(*kind),
                    None => (member.value.position, format!("{} is not a kind", super::names::quoted(text))),
                },
                _ => (member.value.position, format!("must be a text, not {}", member.value.name())),
            },
        };
        let remedy = format!("use one of {}", Kind::names());
        self.report(file, Some(position), None, "kind", Rule::Field, reason, &remedy);
        None
    }

    fn insert(&mut self, file: &str, tree: Node, key: ObjectKey, object: Object) {
        if let Some(first) = self.documents.place_of(&key) {
            let position = Some(tree.position);
            let reason = format!("is declared twice; the first is at {first}");
            let remedy = "keep one of them, or give one another name";
            self.report(file, position, Some(key), "", Rule::DuplicateObject, reason, remedy);
            return;
        }
        if key.gateway_name().len() > MAX_GATEWAY_NAME {
            let reason = format!(
                "namespace and name have {} characters together, with the '/' at most {MAX_GATEWAY_NAME} are allowed",
                key.gateway_name().len()
            );
            let position = Some(tree.locate("metadata.name"));
            self.report(
                file,
                position,
                Some(key),
                "metadata.name",
                Rule::NameLength,
                reason,
                "use a shorter one",
            );
            return;
        }
        self.documents.sources.insert(key.clone(), Source { file: file.to_owned(), tree });
        self.documents.objects.insert(key, object);
    }

    #[expect(clippy::too_many_arguments, reason = "a problem has as many parts")]
    fn report(
        &mut self,
        file: &str,
        position: Option<super::located::Position>,
        object: Option<ObjectKey>,
        field: &str,
        rule: Rule,
        reason: impl Into<String>,
        remedy: &str,
    ) {
        let position = position.unwrap_or(super::located::Position { line: 1, column: 1 });
        self.problems.push(Problem {
            place: Some(Place { file: file.to_owned(), position }),
            object,
            field: field.to_owned(),
            rule,
            reason: reason.into(),
            remedy: remedy.to_owned(),
        });
    }
}

/// The key of a document of a kind, as far as it can be read.
fn key_of(node: &Node, kind: Kind) -> Option<ObjectKey> {
    let metadata = &node.member("metadata")?.value;
    let text = |key: &str| match &metadata.member(key)?.value.content {
        Content::Text(text) => text.parse().ok(),
        _ => None,
    };
    Some(ObjectKey::new(kind, text("namespace"), text("name")?))
}

/// A document without wrong fields, as an object; or what is wrong all the
/// same, and where.
fn decode(node: &Node, kind: Kind) -> Result<(ObjectKey, Object), (&'static str, String)> {
    let part = |name: &'static str| {
        node.member(name)
            .and_then(|member| without_nulls(member.value.to_value()?))
            .ok_or_else(|| (name, "holds a number that is out of range".to_owned()))
    };
    decode_parts(kind, part("metadata")?, part("spec")?)
}

fn decode_parts(
    kind: Kind,
    metadata: Value,
    spec: Value,
) -> Result<(ObjectKey, Object), (&'static str, String)> {
    let metadata: Metadata =
        serde_json::from_value(metadata).map_err(|error| ("metadata", error.to_string()))?;
    if metadata.namespace.is_some() && !kind.is_namespaced() {
        return Err(("metadata.namespace", format!("a {kind} is in no namespace: leave it out")));
    }
    let spec = Spec::from_value(kind, spec).map_err(|error| ("spec", error.to_string()))?;
    Ok((ObjectKey::new(kind, metadata.namespace, metadata.name), Object { labels: metadata.labels, spec }))
}

/// Reads a document that [`Object::to_document`] has written.
///
/// # Errors
/// A sentence, when it is not one.
pub fn from_document(mut document: Value) -> Result<(ObjectKey, Object), String> {
    let kind: Kind = document["kind"].as_str().unwrap_or_default().parse()?;
    let mut part = |name: &str| document.get_mut(name).map(Value::take).unwrap_or_default();
    decode_parts(kind, part("metadata"), part("spec")).map_err(|(path, reason)| format!("{path}: {reason}"))
}

/// Leaves out what is null in mappings: it is as if it were not there.
fn without_nulls(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .filter_map(|(key, value)| Some((key, without_nulls(value)?)))
            .collect(),
        Value::Array(items) => items.into_iter().filter_map(without_nulls).collect(),
        other => other,
    })
}

fn one_line(error: &serde_saphyr::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Documents, Vec<String>> {
        let files = [File { name: "a.yaml".to_owned(), text: text.to_owned() }];
        Documents::read(&files).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn documents_that_are_none_are_refused_with_their_place() {
        let problems =
            read("- 1\n---\nkind: Netwrk\n---\nmetadata: {}\n---\nkind: [x]\n---\nkind: Cluster\n")
                .expect_err("nothing is right");
        assert_eq!(problems.len(), 4 + 3, "{problems:#?}");
        assert!(
            problems[0].starts_with("a.yaml:1:1: a document is a mapping of apiVersion, kind"),
            "{problems:#?}"
        );
        assert!(problems[1].starts_with("a.yaml:3:7: kind: \"Netwrk\" is not a kind: use one of Cluster, "));
        assert!(problems[2].starts_with("a.yaml:5:1: kind: is missing"));
        assert!(problems[3].starts_with("a.yaml:7:7: kind: must be a text, not a list"));
        assert!(problems[4].contains("apiVersion: is missing: write \"tieline.io/v1\""));
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_place() {
        let problems = read("kind: Cluster\nspec: [\n").expect_err("no YAML");
        assert!(
            problems[0].contains("cannot be read as YAML") && problems[0].contains("[syntax]"),
            "{problems:?}"
        );
        let problems = read("kind: Cluster\nkind: Peer\n").expect_err("twice");
        assert!(problems[0].starts_with("a.yaml:2:"), "{problems:?}");
    }

    #[test]
    fn bombs_are_refused_and_large_files_are_not() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(read(&bomb).is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
        let cluster = |n| {
            format!(
                "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {{name: c{n}}}\nspec: {{asn: {}}}\n---\n",
                n + 1
            )
        };
        let text: String = (0..5000).map(cluster).collect();
        assert_eq!(read(&text).map(|documents| documents.objects.len()), Ok(5000));
    }

    #[test]
    fn names_that_gateways_cannot_take_are_refused() {
        let text = format!(
            "apiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {}, namespace: {}}}\nspec: {{cluster: a}}\n",
            "n".repeat(40),
            "s".repeat(40)
        );
        let problems = read(&text).expect_err("81 characters");
        assert!(problems[0].contains("[name-length]"), "{problems:?}");
        let text =
            "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {name: a, namespace: b}\nspec: {asn: 1}\n";
        let problems = read(text).expect_err("no namespace");
        assert!(
            problems[0]
                .starts_with("a.yaml:3:32: Cluster/a: metadata.namespace: a Cluster is in no namespace")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}", spec in "[a-z0-9:{}\\[\\], \\n'\"&*-]{0,120}") {
            let _ = read(&text);
            let _ = read(&format!("apiVersion: tieline.io/v1\nkind: Endpoint\nmetadata: {{name: a}}\nspec: {spec}\n"));
        }
    }
}
