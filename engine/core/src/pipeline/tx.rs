//! Tx: finished frames go to their ports, in the order in which their packets
//! came, whichever way each of them took through the stages.

use crate::io::Io;
use crate::pipeline::burst::Burst;
use crate::pipeline::context::Context;
use crate::types::PortId;

/// Sends every packet that is left in the burst, which is empty afterwards.
/// Its port is in `meta.scratch`. Packets that follow each other to one port
/// go there together.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>) {
    let port = |burst: &Burst<I::Buf>, index: u8| PortId(burst.meta(index).scratch as u16);
    let (mut next, end) = (0, burst.len() as u8);
    while next < end {
        let to = port(burst, next);
        let start = next;
        while next < end && port(burst, next) == to {
            next += 1;
        }
        cx.out.transmit_all(to, burst.slots_mut(start..next), cx.counters);
    }
    burst.clear();
}

/// The same for finished frames that another thread has handed over.
pub fn run_handed_over<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>) {
    for index in 0..burst.len() as u8 {
        let port = PortId(burst.meta(index).scratch as u16);
        if let Some(packet) = burst.take(index) {
            cx.out.transmit_handed_over(port, packet, cx.counters);
        }
    }
    burst.clear();
}
