//! The parts of the engine, each alone: what one packet, or one change, takes
//! of it.
//!
//! - [`packets`]: parsing, hashing, encapsulation, decapsulation, checksums
//! - [`tables`]: routing tables, sessions, policies

pub mod packets;
pub mod tables;

use crate::pipeline::{Case, Rig};

/// Carries out at least so many operations, going on where it stopped, and
/// returns how many.
pub type Run = Box<dyn FnMut(usize) -> usize>;

/// Something to measure.
pub struct Operation {
    /// Its name in reports.
    pub name: &'static str,
    /// Sets it up.
    pub make: Box<dyn Fn() -> Run>,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An operation by its name and what sets it up.
fn operation(name: &'static str, make: impl Fn() -> Run + 'static) -> Operation {
    Operation { name, make: Box::new(make) }
}

/// The parts of the engine.
pub fn all() -> Vec<Operation> {
    packets::all().into_iter().chain(tables::all()).collect()
}

/// A packet's way through the whole pipeline.
pub fn pipeline(case: Case) -> Operation {
    operation(case.name, move || {
        let mut rig = Rig::new(case);
        Box::new(move |packets| rig.run(packets))
    })
}

/// Carries out `one` on the inputs in turn.
fn over<T: 'static>(mut inputs: Vec<T>, mut one: impl FnMut(&mut T) + 'static) -> Run {
    let mut next = 0;
    Box::new(move |count| {
        for _ in 0..count {
            one(&mut inputs[next]);
            next = if next + 1 == inputs.len() { 0 } else { next + 1 };
        }
        count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_does_what_is_asked_of_it() {
        for operation in all().into_iter().filter(|operation| operation.name != "session_hit_1m") {
            let mut run = (operation.make)();
            for count in [1, 100, 5000] {
                let done = run(count);
                assert!((count..count + 64).contains(&done), "{}: {done} for {count}", operation.name);
            }
        }
    }
}
