//! The real binary, driven from outside: without root, hugepages or devices.

mod api;
mod certificates;
mod clock;
mod contention;
mod devices;
mod full_disk;
mod greedy;
mod life;
mod old_daemon;
mod privileges;
mod restart;
mod security;
mod sessions;
mod stored;
mod support;
mod take_over;
mod watching;
mod wire;
