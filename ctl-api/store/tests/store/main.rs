//! Tests of the store from outside: against a model, by killing processes, by
//! losing power, by damaging files, on a full disk.

mod crash;
mod damage;
mod full_disk;
mod history;
mod model;
mod power;
mod support;
mod under_way;
mod use_cases;
