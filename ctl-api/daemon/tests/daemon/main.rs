//! The real binary, driven from outside: without root, hugepages or devices.

mod api;
mod certificates;
mod clock;
mod contention;
mod devices;
/// Tests speak for daemons that take over, or are taken over from.
#[path = "../../src/upgrade/frame.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod frame;
mod full_disk;
mod greedy;
mod life;
mod old_daemon;
mod restart;
mod security;
mod sessions;
mod stored;
mod support;
mod take_over;
mod watching;
mod wire;
