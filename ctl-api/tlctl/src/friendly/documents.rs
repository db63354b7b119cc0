//! Files of objects: YAML with one or several documents, or JSON (which is
//! YAML too). A document is one object or a list of objects.

use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use tieline_proto::v1::Object;

use super::decode;
use crate::error::Error;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Reads all objects of all files; `-` is standard input. Nothing is returned
/// unless every file is right.
pub fn read_files(files: &[String]) -> Result<Vec<Object>, Error> {
    if files.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Error::Usage("standard input (-) can be read only once".to_owned()));
    }
    let mut objects = Vec::new();
    for file in files {
        let (name, text) = if file == "-" {
            ("standard input", read(&mut io::stdin().lock()))
        } else {
            (file.as_str(), std::fs::File::open(Path::new(file)).and_then(|mut file| read(&mut file)))
        };
        let text = text.map_err(|error| Error::Usage(format!("cannot read {name}: {error}")))?;
        let found = parse(&text).map_err(|problem| Error::Usage(format!("{name}: {problem}")))?;
        objects.extend(found);
    }
    Ok(objects)
}

fn read(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB; split it", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// The objects of one file; an error says in which document, and where there.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Object>, String> {
    let options = serde_saphyr::options! {
        // The file's size is limited above. What the file can make larger than
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
    let mut objects = Vec::new();
    let mut source = text;
    let documents = serde_saphyr::read_with_options::<_, Value>(&mut source, options);
    for (number, document) in (1..).zip(documents) {
        let document =
            document.map_err(|error| format!("document {number} cannot be read: {}", one_line(&error)))?;
        match &document {
            Value::Array(items) => {
                for (item, value) in (1..).zip(items) {
                    let object = decode::object(value)
                        .map_err(|error| format!("document {number}, item {item}: {error}"))?;
                    objects.push(object);
                }
            }
            value => {
                let object = decode::object(value).map_err(|error| format!("document {number}: {error}"))?;
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

fn one_line(error: &serde_saphyr::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Values as YAML, one document each.
pub fn to_yaml(values: &[Value]) -> Result<String, Error> {
    let mut text = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)
            .map_err(|error| Error::Daemon(format!("cannot write the reply as YAML: {error}")))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{display_keys, key_of};

    fn keys(text: &str) -> String {
        let objects = parse(text.as_bytes()).expect(text);
        display_keys(&objects.iter().map(|object| key_of(object).expect("a kind")).collect::<Vec<_>>())
    }

    fn problem(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn documents_lists_and_json_are_read() {
        assert_eq!(keys("vrf: {name: red}\n---\nport:\n  name: eth0\n"), "vrf/red, port/eth0");
        assert_eq!(keys("---\nvrf: {name: red}\n...\n"), "vrf/red");
        assert_eq!(keys("- vrf: {name: red}\n- vrf: {name: blue}\n"), "vrf/red, vrf/blue");
        assert_eq!(keys("{\"vrf\": {\"name\": \"red\", \"importRouteTargets\": [\"1:1\"]}}"), "vrf/red");
        assert_eq!(
            keys("[{\"next_hop\": {\"name\": \"a\", \"discard\": {}}},\n {\"vrf\": {\"name\": \"b\"}}]"),
            "next-hop/a, vrf/b"
        );
        assert_eq!(keys("# nothing\n"), "");
    }

    #[test]
    fn errors_name_the_document_and_the_field() {
        assert_eq!(
            problem("vrf: {name: red}\n---\nport: {nmae: eth0}\n"),
            "document 2: port.nmae: no such field; there are name, device, role, mtu, rx_queues"
        );
        assert_eq!(
            problem("- vrf: {name: red}\n- vrf: {name: blue, label: x}\n"),
            "document 1, item 2: vrf.label: must be a whole number from 0 to 4294967295, not \"x\""
        );
        let text = problem("vrf: {name: red}\n---\nvrf: [\n");
        assert!(text.starts_with("document 2 cannot be read: "), "{text}");
        let text = problem("vrf: {name: red, name: blue}\n");
        assert!(text.starts_with("document 1 cannot be read: ") && text.contains("name"), "{text}");
    }

    #[test]
    fn bombs_and_noise_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        problem(&bomb);
        problem(&"[".repeat(100_000));
        assert!(parse(&[0xff, 0xfe, 0x00, 0x12]).is_err() || parse(&[0xff, 0xfe, 0x00, 0x12]) == Ok(vec![]));
    }

    #[test]
    fn large_files_are_read() {
        let text: String = (0..30_000).map(|n| format!("vrf: {{name: v{n}}}\n---\n")).collect();
        assert_eq!(parse(text.as_bytes()).map(|objects| objects.len()), Ok(30_000));
    }
}
