//! The real binary, driven from outside: without root, hugepages or devices.

mod api;
mod life;
mod support;
mod take_over;
