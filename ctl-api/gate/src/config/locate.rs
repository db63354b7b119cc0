//! Lines and keys of a TOML text, so that an error can name both.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The line, counted from 1, of the byte at `at`.
pub fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The line on which a key such as `engine.cores` stands; if it is missing,
/// that of its table.
pub fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut at = None;
    for part in key.split('.') {
        // A key that is missing stands where its table does.
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
        at = Some(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    at.map(|at| line_of(text, at))
}

/// The full name of the innermost key at or around `span`.
pub fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let mut path = Vec::new();
    descend(document.get_ref(), span, &mut path);
    (!path.is_empty()).then(|| path.join("."))
}

fn descend(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    for (name, value) in table.iter() {
        path.push(name.get_ref().to_string());
        if let DeValue::Table(inner) = value.get_ref()
            && descend(inner, span, path)
        {
            return true;
        }
        let within =
            |outer: &Range<usize>| outer.start <= span.start && span.start < outer.end.max(outer.start + 1);
        if within(&name.span()) || within(&value.span()) {
            return true;
        }
        path.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "log = \"info\"\n\n[engine]\ncores = [1,\n  2]\nidle = \"poll\"\n\n[dpdk]\npci = true\n";

    #[test]
    fn keys_and_lines_are_found() {
        for (key, line) in [("log", 1), ("engine.cores", 4), ("engine.idle", 6), ("dpdk.pci", 9)] {
            assert_eq!(line_of_key(TEXT, key), Some(line), "{key}");
        }
        assert_eq!(line_of_key(TEXT, "engine.workers"), Some(3), "where it would be");
        assert_eq!(line_of_key(TEXT, "limits.routes"), None);
        let second_core = TEXT.find("2]").expect("it is there");
        assert_eq!(key_at(TEXT, &(second_core..second_core + 1)).as_deref(), Some("engine.cores"));
        assert_eq!(line_of(TEXT, second_core), 5);
        let pci = TEXT.find("pci").expect("it is there");
        assert_eq!(key_at(TEXT, &(pci..pci + 3)).as_deref(), Some("dpdk.pci"));
    }
}
