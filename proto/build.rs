//! Generates the messages and, with the feature `services`, the clients and the servers from `tieline/v1` and
//! `tieline/federation/v1`.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 3] =
    ["tieline/v1/objects.proto", "tieline/v1/control.proto", "tieline/v1/operations.proto"];

const FEDERATION_FILES: [&str; 2] =
    ["tieline/federation/v1/intent.proto", "tieline/federation/v1/federation.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES.iter().chain(&FEDERATION_FILES) {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    let services = std::env::var_os("CARGO_FEATURE_SERVICES").is_some();
    let generate = || tonic_prost_build::configure().build_client(services).build_server(services);
    let mut config = tonic_prost_build::Config::new();
    prost_reflect_build::Builder::new()
        .file_descriptor_set_path(&descriptors)
        .file_descriptor_set_bytes("crate::DESCRIPTORS")
        .configure(&mut config, &FILES, &["."])?;
    generate().file_descriptor_set_path(&descriptors).compile_with_config(config, &FILES, &["."])?;
    // Apart: what a gateway's API is must not depend on the controllers'.
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("federation_descriptors.bin");
    generate()
        .file_descriptor_set_path(&descriptors)
        // For scripts that read what a controller says.
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .compile_protos(&FEDERATION_FILES, &["."])?;
    Ok(())
}
