//! Writes valid messages as seeds: `seeds DIRECTORY`, one folder a target.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds DIRECTORY");
        return ExitCode::from(2);
    };
    for seed in tieline_bgp_fuzz::seeds::all() {
        let folder = Path::new(&root).join(seed.target);
        let file = folder.join(seed.name);
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, &seed.bytes));
        if let Err(error) = written {
            eprintln!("cannot write the seed {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
