//! Valid inputs that fuzzing starts from.

mod bgp;
mod engine;

/// One input for one target.
pub struct Seed {
    /// The target.
    pub target: &'static str,
    /// What is in it, in a few words. No other seed of the target has the name.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = engine::seeds();
    seeds.extend(bgp::seeds());
    seeds
}
