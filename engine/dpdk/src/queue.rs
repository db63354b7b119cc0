//! The queues of a port, as workers poll them.
//!
//! Each queue is one value that can move between threads but not be used by
//! two at once. All queues hold on to their port: it is closed when the last
//! of them and the [`Port`](crate::Port) are gone.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use sys::{rte_mbuf, tieline_mbuf};
use tieline_dpdk_sys as sys;
use tieline_engine::io::{PacketBurst, RxQueue, TxQueue};

use crate::mbuf::Mbuf;
use crate::port::Running;

/// One receive queue.
///
/// Some drivers with vector code deliver nothing if there is room for fewer
/// than four packets: poll with an empty burst.
#[derive(Debug)]
pub struct Rx {
    port: Arc<Running>,
    queue: u16,
    dropped: u64,
    _one_thread_at_a_time: PhantomData<Cell<()>>,
}

/// One transmit queue.
#[derive(Debug)]
pub struct Tx {
    port: Arc<Running>,
    queue: u16,
    _one_thread_at_a_time: PhantomData<Cell<()>>,
}

impl Rx {
    /// The only handle of a queue that `port` was set up with.
    pub(crate) fn new(port: Arc<Running>, queue: u16) -> Self {
        Self { port, queue, dropped: 0, _one_thread_at_a_time: PhantomData }
    }

    pub(crate) fn port(&self) -> &Arc<Running> {
        &self.port
    }

    /// The number of the queue within its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Makes a packet of several segments one of a single segment, or frees
    /// and counts it.
    #[cold]
    fn linearise(&mut self, packet: *mut rte_mbuf) -> bool {
        // SAFETY: the driver gave the packet to us.
        let fits = unsafe { sys::tieline_pktmbuf_linearize(packet) == 0 };
        if !fits {
            // SAFETY: as above; nobody uses it afterwards.
            unsafe { sys::tieline_pktmbuf_free(packet) };
            self.dropped += 1;
        }
        fits
    }
}

impl Tx {
    /// The only handle of a queue that `port` was set up with.
    pub(crate) fn new(port: Arc<Running>, queue: u16) -> Self {
        Self { port, queue, _one_thread_at_a_time: PhantomData }
    }

    pub(crate) fn port(&self) -> &Arc<Running> {
        &self.port
    }

    /// The number of the queue within its port.
    pub fn index(&self) -> u16 {
        self.queue
    }
}

impl RxQueue for Rx {
    type Buf = Mbuf;

    #[inline]
    fn rx_burst(&mut self, packets: &mut PacketBurst<Mbuf>) -> usize {
        let before = packets.len();
        let room = packets.remaining_capacity();
        // SAFETY: stays inside the array. `Mbuf` is a transparent pointer, so
        // that its spare places can hold raw pointers for now.
        let spare = unsafe { packets.as_mut_ptr().add(before) }.cast::<*mut rte_mbuf>();
        // SAFETY: the port runs as long as `self.port` lives, `self` is the
        // only handle of the queue, and there is room for `room` pointers,
        // which is at most BURST.
        let received =
            unsafe { sys::tieline_rx_burst(self.port.id(), self.queue, spare, room as u16) }.min(room as u16);

        let mut kept = 0;
        for at in 0..usize::from(received) {
            // SAFETY: the driver has written `received` pointers to mbufs that
            // are ours now; the shim asserts the layout of their first line.
            let (packet, segments) = unsafe {
                let packet = *spare.add(at);
                (packet, (*packet.cast::<tieline_mbuf>()).nb_segs)
            };
            if segments == 1 || self.linearise(packet) {
                // SAFETY: `kept` is at most `at`.
                unsafe { *spare.add(kept) = packet };
                kept += 1;
            }
        }
        // SAFETY: `kept` places behind `before` hold mbufs of one segment that
        // we own; drivers hand out mbufs with one reference.
        unsafe { packets.set_len(before + kept) };
        kept
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl TxQueue for Tx {
    type Buf = Mbuf;

    #[inline]
    fn tx_burst(&mut self, packets: &mut PacketBurst<Mbuf>) -> usize {
        let count = packets.len();
        let first = packets.as_mut_ptr();
        // SAFETY: the port runs as long as `self.port` lives, `self` is the
        // only handle of the queue, and `count` mbufs, at most BURST, are
        // there. The device owns those that it says it has taken.
        let sent = unsafe {
            sys::tieline_tx_burst(self.port.id(), self.queue, first.cast::<*mut rte_mbuf>(), count as u16)
        };
        let sent = usize::from(sent).min(count);
        // SAFETY: what was not taken moves to the front and stays owned by the
        // array; what was taken leaves it without being dropped.
        unsafe {
            ptr::copy(first.add(sent), first, count - sent);
            packets.set_len(count - sent);
        }
        sent
    }
}
