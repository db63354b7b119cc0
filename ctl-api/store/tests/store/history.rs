//! Random histories, and what they should lead to.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tieline_store::Changes;

use crate::support::State;

/// Small, seeded, and the same on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// One step of a history.
#[derive(Debug, Clone)]
pub enum Step {
    Write(Vec<Op>),
    Replace(Vec<Op>),
    Sync,
}

/// One change.
#[derive(Debug, Clone)]
pub enum Op {
    Meta(u8, Option<Vec<u8>>),
    Controller(u16, Option<Vec<u8>>),
    Label(u8, Option<u32>),
    Declaration(u16, Vec<u8>, Option<Vec<u8>>),
    Attributes(u32, Option<Vec<u8>>),
    Route(u32, IpNet, Option<Vec<u8>>),
}

impl Op {
    /// From few enough of each that they meet again.
    pub fn random(random: &mut Random) -> Self {
        let put = random.below(3) > 0;
        let bytes = |random: &mut Random, most: u64| {
            let length = random.below(most);
            (0..length).map(|_| random.next() as u8).collect::<Vec<_>>()
        };
        match random.below(16) {
            0 => Self::Meta(random.below(4) as u8, put.then(|| bytes(random, 20))),
            1 => Self::Controller(random.below(4) as u16, put.then(|| bytes(random, 40))),
            2 => Self::Label(random.below(8) as u8, put.then(|| random.next() as u32)),
            3 => {
                let key = format!("vrf/{}", random.below(10)).into_bytes();
                let most = if random.below(50) == 0 { 60_000 } else { 200 };
                Self::Declaration(random.below(3) as u16, key, put.then(|| bytes(random, most)))
            }
            4 => Self::Attributes(random.below(20) as u32, put.then(|| bytes(random, 60))),
            _ => {
                let bits = random.below(64) as u32;
                let prefix: IpNet = if random.below(4) == 0 {
                    let address = 0x2001_0db8_u128 << 96 | u128::from(bits) << 64;
                    Ipv6Net::new(address.into(), 64).expect("a length").into()
                } else {
                    let length = 20 + random.below(13) as u8;
                    Ipv4Net::new((0x0a00_0000 | bits << 8).into(), length).expect("a length").trunc().into()
                };
                Self::Route(random.below(20) as u32, prefix, put.then(|| bytes(random, 2)))
            }
        }
    }

    pub fn add_to(&self, changes: &mut Changes) {
        match self {
            Self::Meta(n, Some(value)) => changes.put_meta(&format!("m{n}"), value),
            Self::Meta(n, None) => changes.remove_meta(&format!("m{n}")),
            Self::Controller(n, Some(value)) => changes.put_controller(*n, value),
            Self::Controller(n, None) => changes.remove_controller(*n),
            Self::Label(n, Some(label)) => changes.put_label(&format!("v{n}"), *label),
            Self::Label(n, None) => changes.remove_label(&format!("v{n}")),
            Self::Declaration(c, key, Some(value)) => changes.put_declaration(*c, key, value),
            Self::Declaration(c, key, None) => changes.remove_declaration(*c, key),
            Self::Attributes(n, Some(value)) => changes.put_attributes(*n, value),
            Self::Attributes(n, None) => changes.remove_attributes(*n),
            Self::Route(n, prefix, Some(value)) => changes.add_route(*n, *prefix, value),
            Self::Route(n, prefix, None) => changes.remove_route(*n, *prefix),
        }
    }

    fn apply(&self, state: &mut State) {
        let (name, value) = match self {
            Self::Meta(n, value) => (format!("meta m{n}"), value.clone()),
            Self::Controller(n, value) => (format!("controller {n}"), value.clone()),
            Self::Label(n, label) => (format!("label v{n}"), label.map(|label| label.to_be_bytes().to_vec())),
            Self::Declaration(c, key, value) => {
                (format!("declaration {c} {}", key.escape_ascii()), value.clone())
            }
            Self::Attributes(n, value) => (format!("attributes {n}"), value.clone()),
            Self::Route(n, prefix, value) => (format!("route {n} {prefix}"), value.clone()),
        };
        match value {
            Some(value) => drop(state.insert(name, value)),
            None => drop(state.remove(&name)),
        }
    }
}

impl Step {
    pub fn random(random: &mut Random) -> Self {
        let kind = random.below(60);
        let most = if random.below(10) == 0 { 200 } else { 12 };
        let ops = (0..=random.below(most)).map(|_| Op::random(random)).collect();
        match kind {
            0 => Self::Replace(ops),
            1 => Self::Sync,
            _ => Self::Write(ops),
        }
    }

    pub fn changes(&self) -> Changes {
        let mut changes = Changes::new();
        if let Self::Write(ops) | Self::Replace(ops) = self {
            ops.iter().for_each(|op| op.add_to(&mut changes));
        }
        changes
    }

    pub fn apply(&self, state: &mut State) {
        if matches!(self, Self::Replace(_)) {
            state.clear();
        }
        if let Self::Write(ops) | Self::Replace(ops) = self {
            ops.iter().for_each(|op| op.apply(state));
        }
    }
}
