//! Finds the system's DPDK, binds the functions that Tieline uses and compiles
//! the shim of the inline ones.
//!
//! DPDK is linked as shared libraries: its drivers are plugins that
//! `rte_eal_init` loads from the directory the distribution has built in, so
//! they need no mention here.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const OLDEST: &str = "22.11";

/// The libraries whose symbols the bindings and the shim name.
const LIBRARIES: [&str; 4] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];

const FUNCTIONS: [&str; 28] = [
    "rte_version",
    "rte_strerror",
    "rte_eal_init",
    "rte_eal_get_runtime_dir",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_mempool_avail_count",
    "rte_pktmbuf_copy",
    "rte_dev_probe",
    "rte_eal_hotplug_remove",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_promiscuous_enable",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_is_removed",
    "rte_eth_macaddr_get",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "tieline_.*",
];

const TYPES: [&str; 2] = ["tieline_.*", "rte_eth_rx_mq_mode"];

const VARIABLES: [&str; 4] = ["TIELINE_.*", "RTE_PKTMBUF_HEADROOM", "RTE_MAX_LCORE", "RTE_MAX_ETHPORTS"];

/// Handled only behind pointers.
const OPAQUE: [&str; 4] = ["rte_mbuf", "rte_mempool", "rte_device", "rte_mempool_cache"];

fn main() {
    println!("cargo:rerun-if-changed=csrc");
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
    println!("cargo:rustc-check-cfg=cfg(dpdk_24_11)");

    let dpdk = probe();
    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    if at_least(&dpdk.version, 24, 11) {
        println!("cargo:rustc-cfg=dpdk_24_11");
    }
    println!("cargo:version={}", dpdk.version);

    let flags = compiler_flags();
    bind(&flags);
    compile_shim(&flags);
    // After the shim, which needs them: a linker resolves from left to right.
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
}

fn probe() -> pkg_config::Library {
    let found = pkg_config::Config::new().atleast_version(OLDEST).cargo_metadata(false).probe("libdpdk");
    found.unwrap_or_else(|error| {
        panic!(
            "DPDK {OLDEST} or newer was not found. On Debian and Ubuntu: apt install libdpdk-dev libclang-dev. \
             A DPDK elsewhere is found if PKG_CONFIG_PATH names the directory of its libdpdk.pc. \
             pkg-config says: {error}"
        )
    })
}

fn at_least(version: &str, year: u32, month: u32) -> bool {
    let mut parts = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(year), Some(month))
}

/// Include paths, `-include rte_config.h` and the `-march` that the inline
/// functions are written for; the `pkg-config` crate keeps only the paths.
fn compiler_flags() -> Vec<String> {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG");
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&program)
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|error| panic!("{} could not be run: {error}", program.display()));
    assert!(
        output.status.success(),
        "pkg-config --cflags libdpdk failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn bind(flags: &[String]) {
    choose_libclang();
    let mut builder = bindgen::Builder::default()
        .header("csrc/shim.h")
        .clang_args(flags)
        .layout_tests(true)
        .derive_debug(false)
        .generate_comments(false)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let bindings = builder.generate().unwrap_or_else(|error| {
        panic!(
            "DPDK's headers could not be bound. If several LLVM versions are installed, set LIBCLANG_PATH to the \
             lib directory of the one whose headers are there too (apt install libclang-dev). {error}"
        )
    });
    let file = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindings
        .write_to_file(&file)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", file.display()));
}

/// With several LLVM versions installed, takes the newest that has both its
/// library and its headers: vector intrinsics of one do not parse in another.
fn choose_libclang() {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return;
    }
    let Ok(entries) = std::fs::read_dir("/usr/lib") else { return };
    let newest = entries
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.strip_prefix("llvm-")?.parse().ok()?;
            let lib = entry.path().join("lib");
            (has_libclang(&lib) && has_headers(&lib)).then_some((version, lib))
        })
        .max();
    if let Some((_, lib)) = newest {
        // SAFETY: a build script has one thread here.
        unsafe { env::set_var("LIBCLANG_PATH", lib) };
    }
}

fn has_libclang(lib: &Path) -> bool {
    std::fs::read_dir(lib).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            (name.starts_with("libclang.so") || name.starts_with("libclang-")) && entry.path().exists()
        })
    })
}

fn has_headers(lib: &Path) -> bool {
    std::fs::read_dir(lib.join("clang"))
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join("include/stddef.h").exists()))
}

fn compile_shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("csrc/shim.c").opt_level(3).warnings(false);
    for flag in flags {
        build.flag(flag);
    }
    build.compile("tieline_dpdk_shim");
}
