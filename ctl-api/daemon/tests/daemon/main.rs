//! The real binary, driven from outside: without root, hugepages or devices.

mod api;
mod certificates;
mod life;
mod security;
mod support;
mod wire;
