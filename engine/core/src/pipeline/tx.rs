//! Tx: finished frames go to their ports, in the order in which their packets
//! came, whichever way each of them took through the stages.

use crate::io::Io;
use crate::pipeline::burst::Burst;
use crate::pipeline::context::Context;
use crate::types::PortId;

/// Sends every packet that is left in the burst, which is empty afterwards.
/// Its port is in `meta.scratch`.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>) {
    for index in 0..burst.len() as u8 {
        let port = PortId(burst.meta(index).scratch as u16);
        if let Some(packet) = burst.take(index) {
            cx.out.transmit(port, packet, cx.counters);
        }
    }
    burst.clear();
}
