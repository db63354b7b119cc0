//! Raw bindings to the system's DPDK, 22.11 or newer.
//!
//! - functions, types and constants of DPDK that Tieline uses, made by bindgen
//!   from the installed headers (`build.rs` has the list)
//! - `tieline_*` and `TIELINE_*`: a small shim in C (`csrc`) for what headers
//!   hold as inline functions and macros
//!
//! [`tieline_mbuf`] is the first cache line of an mbuf with plain field names
//! that do not depend on DPDK's release.
//!
//! Safe wrappers are in the crate `tieline-dpdk`.

#[allow(missing_docs)]
#[allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#[allow(unsafe_op_in_unsafe_fn)]
#[allow(unnecessary_transmutes)]
#[allow(clippy::all, clippy::cast_lossless, clippy::semicolon_if_nothing_returned)]
#[allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use generated::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_at_run_time_is_a_dpdk() {
        // SAFETY: returns a constant string.
        let version = unsafe { std::ffi::CStr::from_ptr(rte_version()) };
        assert!(version.to_bytes().starts_with(b"DPDK "), "{version:?}");
    }

    #[test]
    fn without_an_eal_a_thread_has_no_lcore() {
        // SAFETY: reads a thread-local variable.
        assert_eq!(unsafe { tieline_lcore_id() }, TIELINE_NO_LCORE);
    }
}
