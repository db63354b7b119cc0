//! Routes that were kept away lately, for people to look at: a bounded list.

use std::collections::VecDeque;

use tieline_bgp::rib::PeerId;
use tieline_bgp::wire::Nlri;

/// Most routes that are remembered.
pub const MOST: usize = 100;

/// A route that was kept away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub peer: PeerId,
    /// The route.
    pub nlri: Nlri,
    /// Why.
    pub reason: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// The last of them.
#[derive(Debug, Default)]
pub struct Lately {
    routes: VecDeque<Kept>,
}

impl Lately {
    /// Remembers one, and forgets the oldest.
    pub fn note(&mut self, kept: Kept) {
        self.routes.truncate(MOST - 1);
        self.routes.push_front(kept);
    }

    /// A peer is none of ours any more: another may get its number.
    pub fn forget_peer(&mut self, peer: PeerId) {
        self.routes.retain(|kept| kept.peer != peer);
    }

    /// The last ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.routes.iter()
    }
}

#[cfg(test)]
mod tests {
    use tieline_bgp::wire::RouteDistinguisher;

    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut lately = Lately::default();
        for number in 0..250_u32 {
            let nlri =
                Nlri::Vpnv4(RouteDistinguisher::as2(64512, number), "10.0.0.0/24".parse().expect("a prefix"));
            lately.note(Kept {
                peer: PeerId(number % 2),
                nlri,
                reason: "a reason".to_owned(),
                at: number.into(),
            });
        }
        let times: Vec<u64> = lately.iter().map(|kept| kept.at).collect();
        assert_eq!(times, (150..250).rev().collect::<Vec<u64>>());
        lately.forget_peer(PeerId(1));
        assert_eq!(lately.iter().count(), 50);
    }
}
