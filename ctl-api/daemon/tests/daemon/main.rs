//! The real binary, driven from outside: without root, hugepages or devices.

mod api;
mod certificates;
mod clock;
mod devices;
mod full_disk;
mod life;
mod restart;
mod security;
mod sessions;
mod support;
mod take_over;
mod watching;
mod wire;
