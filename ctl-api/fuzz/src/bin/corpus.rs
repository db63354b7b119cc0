//! Moves inputs between the files that are kept and the folders that libFuzzer
//! works with:
//!
//! - `corpus targets` prints the names of the targets
//! - `corpus unpack FOLDER` writes seeds and kept inputs to FOLDER/TARGET/
//! - `corpus pack TARGET FOLDER` makes what lies in FOLDER what is kept for TARGET

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use tieline_fuzz::{TARGETS, corpus, seeds, target};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["targets"] => targets(),
        ["unpack", folder] => unpack(Path::new(folder)),
        ["pack", target, folder] => pack(target, Path::new(folder)),
        _ => Err("usage: corpus targets | unpack FOLDER | pack TARGET FOLDER".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn targets() -> Result<(), String> {
    let names = TARGETS.map(|target| target.name).join("\n");
    writeln!(std::io::stdout(), "{names}").map_err(|error| format!("cannot write the names: {error}"))
}

fn unpack(root: &Path) -> Result<(), String> {
    for seed in seeds::all() {
        put(&root.join(seed.target), &seed.name, &seed.bytes)?;
    }
    for target in &TARGETS {
        for folder in corpus::FOLDERS {
            for (number, input) in corpus::read(&corpus::file(folder, target.name))?.iter().enumerate() {
                put(&root.join(target.name), &format!("{folder}-{number}"), input)?;
            }
        }
    }
    Ok(())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let file = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, bytes))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn pack(name: &str, folder: &Path) -> Result<(), String> {
    if target(name).is_none() {
        return Err(format!("there is no target '{name}'"));
    }
    let inputs: Result<Vec<Vec<u8>>, std::io::Error> =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| fs::read(entry?.path())).collect());
    let inputs = inputs.map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let file = corpus::file("corpus", name);
    fs::write(&file, corpus::write(inputs))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}
