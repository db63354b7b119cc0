//! Ports on devices that need no rights: rings, capture files and nothing.

mod support;

use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use support::{config, eal, open, packet, pool};
use tieline_dpdk::{ClosePortError, Mbuf, OpenPort, Pool, Port, PortProblem};
use tieline_dpdk_sys as sys;
use tieline_engine::io::{BURST, BufferPool as _, PacketBurst, RxQueue as _, TxQueue as _};
use tieline_engine::packet::buffer::PacketBuf as _;

/// Frames that differ in length and content.
fn frames(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| (0..60 + (n * 37) % 1400).map(|at| (at + n) as u8).collect()).collect()
}

fn close(open: OpenPort) {
    open.port.close(open.rx, open.tx).expect("closes");
}

/// A file name of this process.
fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tieline-{}-{name}.pcap", std::process::id()))
}

/// A capture file: global header, then a header before each frame.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 2 | 4 << 16, 0, 0, 0x0004_0000, 1] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("short");
        for word in [0, 0, length, length] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// The frames of a capture file.
fn frames_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while let Some((header, data)) = rest.split_at_checked(16) {
        let length = u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        frames.push(data[..length].to_vec());
        rest = &data[length..];
    }
    frames
}

#[test]
fn frames_pass_from_file_to_file_unchanged() {
    let pool = pool("files", 255, 2048);
    let (input, output) = (file("in"), file("out"));
    let sent = frames(200);
    std::fs::write(&input, pcap(&sent)).expect("written");
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let mut port = open(&pool, &device).expect("opens");
    let mut packets = PacketBurst::new();
    let mut received = 0;
    while port.rx[0].rx_burst(&mut packets) > 0 {
        received += packets.len();
        port.tx[0].tx_burst(&mut packets);
        assert!(packets.is_empty(), "a file takes everything");
    }
    assert_eq!(received, sent.len());
    assert_eq!(port.rx[0].take_dropped(), 0);
    let counted = port.port.stats();
    assert_eq!((counted.rx_packets, counted.tx_packets), (200, 200));
    close(port);
    assert_eq!(frames_of(&std::fs::read(&output).expect("a file")), sent);
    assert_eq!(pool.available(), pool.capacity());
    for path in [input, output] {
        std::fs::remove_file(path).expect("removed");
    }
}

#[test]
fn frames_larger_than_a_buffer_are_dropped_and_counted() {
    let pool = pool("jumbo", 63, 2048);
    let input = file("jumbo");
    let frames = vec![vec![1; 60], vec![2; 5000], vec![3; 2048], vec![4; 2049], vec![5; 70]];
    std::fs::write(&input, pcap(&frames)).expect("written");
    let mut port = open(&pool, &format!("net_pcap1,rx_pcap={}", input.display())).expect("opens");
    let mut packets = PacketBurst::new();
    while port.rx[0].rx_burst(&mut packets) > 0 {}
    let firsts: Vec<(u8, usize)> =
        packets.iter().map(|packet| (packet.bytes()[0], packet.bytes().len())).collect();
    assert_eq!(firsts, [(1, 60), (3, 2048), (5, 70)]);
    assert_eq!(port.rx[0].take_dropped(), 2);
    assert_eq!(port.rx[0].take_dropped(), 0, "taken");
    drop(packets);
    close(port);
    assert_eq!(pool.available(), pool.capacity());
    std::fs::remove_file(input).expect("removed");
}

/// A packet of two segments, the first with room for the second.
fn chain(pool: &Pool, large: &Pool, first: usize, second: usize) -> Mbuf {
    let room = pool.data_room();
    let content: Vec<u8> = (0..room + second).map(|at| at as u8).collect();
    let source = packet(large, &content).into_raw();
    let pool = pool.clone().alloc().expect("a buffer").into_raw();
    // SAFETY: a live mbuf; its pool pointer is set. Both are freed here.
    unsafe {
        let mempool = (*pool.as_ptr().cast::<sys::tieline_mbuf>()).pool;
        let copy = sys::rte_pktmbuf_copy(source.as_ptr(), mempool, 0, u32::MAX);
        drop((Mbuf::from_raw(source), Mbuf::from_raw(pool)));
        let copy = ptr::NonNull::new(copy).expect("two buffers");
        let head = &mut *copy.as_ptr().cast::<sys::tieline_mbuf>();
        assert_eq!((head.nb_segs, usize::from(head.data_len)), (2, room));
        head.data_len = first as u16;
        head.pkt_len = (first + second) as u32;
        Mbuf::from_raw(copy)
    }
}

#[test]
fn segments_that_fit_into_one_buffer_are_joined() {
    let (small, large) = (pool("small", 15, 512), pool("large", 3, 2048));
    let mut ring = {
        let mut config = config("net_ring7");
        config.mtu = 400;
        Port::open(eal(), &small, &config).expect("opens")
    };
    let mut packets = PacketBurst::new();
    packets.push(chain(&small, &large, 100, 200));
    assert_eq!(ring.tx[0].tx_burst(&mut packets), 1);
    assert_eq!(ring.rx[0].rx_burst(&mut packets), 1);
    let expected: Vec<u8> = (0..100).chain(512..712).map(|at: usize| at as u8).collect();
    assert_eq!(packets[0].bytes(), &expected[..]);
    drop(packets);
    assert_eq!(ring.rx[0].take_dropped(), 0);
    close(ring);
    assert_eq!((small.available(), large.available()), (15, 3));
}

#[test]
fn what_a_full_ring_does_not_take_stays_with_the_caller() {
    let pool = pool("full", 2047, 2048);
    let mut ring = open(&pool, "net_ring1").expect("opens");
    let mut number = 0u32;
    let mut fresh = || {
        number += 1;
        packet(&pool, &number.to_be_bytes())
    };
    let mut sent = 0;
    let mut packets = PacketBurst::new();
    loop {
        while !packets.is_full() {
            packets.push(fresh());
        }
        let taken = ring.tx[0].tx_burst(&mut packets);
        assert_eq!(packets.len(), BURST - taken);
        sent += taken;
        if taken < BURST {
            break;
        }
    }
    assert!(sent >= 1000, "the ring holds about a thousand: {sent}");
    let next = u32::try_from(sent).expect("small") + 1;
    assert_eq!(packets[0].bytes(), next.to_be_bytes(), "the first that was not taken is in front");
    assert_eq!(ring.tx[0].tx_burst(&mut packets), 0);

    let mut received = PacketBurst::new();
    let mut expected = 1u32;
    while ring.rx[0].rx_burst(&mut received) > 0 {
        for packet in received.drain(..) {
            assert_eq!(packet.bytes(), expected.to_be_bytes());
            expected += 1;
        }
    }
    assert_eq!(expected, next);
    assert!(ring.tx[0].tx_burst(&mut packets) > 0, "there is room again");
    drop(packets);
    close(ring);
    assert_eq!(pool.available(), pool.capacity(), "what waited in the ring is freed too");
}

#[test]
fn a_burst_fills_the_room_that_is_left_and_no_more() {
    let pool = pool("room", 255, 256);
    let mut config = config("net_ring2");
    config.mtu = 200;
    let mut ring = Port::open(eal(), &pool, &config).expect("opens");
    let mut packets: PacketBurst<Mbuf> = (0..BURST as u8).map(|n| packet(&pool, &[n])).collect();
    assert_eq!(ring.tx[0].tx_burst(&mut packets), BURST);
    let mut packets: PacketBurst<Mbuf> = (0..61).map(|_| packet(&pool, &[0xff])).collect();
    assert_eq!(ring.rx[0].rx_burst(&mut packets), 3);
    assert_eq!(packets.iter().map(|p| p.bytes()[0]).collect::<Vec<_>>()[59..], [0xff, 0xff, 0, 1, 2]);
    assert_eq!(ring.rx[0].rx_burst(&mut packets), 0, "full");
    packets.clear();
    assert_eq!(ring.tx[0].tx_burst(&mut packets), 0, "nothing to send");
    assert_eq!(ring.rx[0].rx_burst(&mut packets), BURST - 3);
    drop(packets);
    close(ring);
    assert_eq!(pool.available(), pool.capacity());
}

#[test]
fn ports_come_and_go_while_another_passes_packets() {
    let pool = pool("busy", 1023, 2048);
    let OpenPort { port, mut rx, mut tx, .. } = open(&pool, "net_ring3").expect("opens");
    let (stop, passed) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut rx0, mut tx0) = (rx.remove(0), tx.remove(0));
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut packets: PacketBurst<Mbuf> = (0..32).map(|n| packet(&pool, &[n; 64])).collect();
            while !stop.load(Ordering::Relaxed) {
                tx0.tx_burst(&mut packets);
                passed.fetch_add(rx0.rx_burst(&mut packets) as u64, Ordering::Relaxed);
                thread::yield_now();
            }
            assert_eq!(packets.len(), 32, "none is lost");
        });
        for round in 0..30 {
            let before = passed.load(Ordering::Relaxed);
            // The same device again and again, and others beside it.
            let mut null = open(&pool, "net_null0,size=100").expect("opens");
            let others = open(&pool, &format!("net_ring1{round:02}")).expect("opens");
            let mut packets = PacketBurst::new();
            assert!(null.rx[0].rx_burst(&mut packets) > 0);
            assert!(packets.iter().all(|packet| packet.bytes().len() == 100));
            assert_eq!(null.tx[0].tx_burst(&mut packets), BURST);
            close(null);
            close(others);
            while passed.load(Ordering::Relaxed) == before {
                assert!(!worker.is_finished(), "the worker has failed");
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    port.close(vec![rx0], vec![tx0]).expect("closes");
    assert_eq!(pool.available(), pool.capacity());
}

#[test]
fn a_port_is_closed_only_with_all_its_queues() {
    let pool = pool("queues", 255, 2048);
    let mut config = config("net_ring4");
    (config.rx_queues, config.tx_queues) = (3, 2);
    let mut first = Port::open(eal(), &pool, &config).expect("opens");
    assert_eq!((first.rx.len(), first.tx.len()), (3, 2));
    assert_eq!((first.rx[2].index(), first.tx[1].index()), (2, 1));
    assert_eq!((first.port.name(), first.port.mtu()), ("test-net_ring4", 1500));
    assert!(first.port.link_up());
    let second = open(&pool, "net_ring5").expect("opens");

    let kept = first.rx.pop().expect("a queue");
    let Err(ClosePortError::QueuesInUse(back)) = first.port.close(first.rx, first.tx) else {
        panic!("a queue is missing");
    };
    let OpenPort { port, mut rx, tx, .. } = *back;
    rx.extend(second.rx);
    let Err(error) = port.close(rx, tx) else { panic!("a queue of another port") };
    assert!(error.to_string().contains("port test-net_ring4 cannot be closed"), "{error}");
    let ClosePortError::QueuesInUse(back) = error else { panic!("{error}") };
    let OpenPort { port, mut rx, tx, .. } = *back;
    second.port.close(rx.drain(2..).collect(), second.tx).expect("closes");
    rx.push(kept);
    port.close(rx, tx).expect("closes");
}

#[test]
fn the_last_queue_closes_a_port_whose_handle_is_gone() {
    let pool = pool("dropped", 255, 2048);
    let OpenPort { port, rx, mut tx, .. } = open(&pool, "net_ring6").expect("opens");
    drop((port, rx));
    let refused = open(&pool, "net_ring6").expect_err("a queue is left");
    assert!(matches!(refused.problem, PortProblem::InUse));
    let mut packets: PacketBurst<Mbuf> = (0..3).map(|n| packet(&pool, &[n])).collect();
    assert_eq!(tx[0].tx_burst(&mut packets), 3, "the queue still works");
    drop(tx);
    let mut again = open(&pool, "net_ring6").expect("the device is free");
    again.rx[0].rx_burst(&mut packets);
    drop(packets);
    close(again);
}

#[test]
fn numbers_of_queues_and_descriptors_follow_the_device() {
    let pool = pool("limits", 255, 2048);
    let mut config = config("net_ring8");
    (config.rx_queues, config.tx_queues) = (u16::MAX, u16::MAX);
    (config.rx_descriptors, config.tx_descriptors) = (1, u16::MAX);
    let ring = Port::open(eal(), &pool, &config).expect("opens");
    assert_eq!((ring.rx.len(), ring.tx.len()), (16, 16));
    close(ring);
}

#[test]
fn refusals_say_which_port_which_device_and_what_to_check() {
    let pool = pool("refusals", 255, 2048);
    let refusal = |device: &str| open(&pool, device).expect_err(device).to_string();

    let missing = refusal("net_pcap9,rx_pcap=/nonexistent/file");
    for part in [
        "port test-net_pcap9",
        "could not be attached",
        "/nonexistent/file: No such file",
        "Check that the files",
    ] {
        assert!(missing.contains(part), "{part} in {missing}");
    }
    for device in ["net_af_packet0,iface=nosuchiface", "net_virtio_user0,path=/nonexistent/socket"] {
        let text = refusal(device);
        assert!(text.contains(device) && text.contains("DPDK says") && text.contains("Check "), "{text}");
    }
    assert!(refusal("0000:01:00.0").contains("without PCI"));

    let first = open(&pool, "net_null1").expect("opens");
    let twice = refusal("net_null1,size=64");
    assert!(twice.contains("belongs to a port already"), "{twice}");
    close(first);
    close(open(&pool, "net_null1").expect("opens again"));

    let mut jumbo = config("net_null2");
    jumbo.mtu = 9000;
    let error = Port::open(eal(), &pool, &jumbo).expect_err("buffers of 2048");
    assert!(matches!(error.problem, PortProblem::BuffersTooSmall { needed: 9022, .. }), "{error}");
    jumbo.mtu = 20;
    let error = Port::open(eal(), &pool, &jumbo).expect_err("not even a minimal packet");
    assert!(matches!(error.problem, PortProblem::Mtu { .. }), "{error}");
    let mut none = config("net_null2");
    none.tx_queues = 0;
    assert!(matches!(Port::open(eal(), &pool, &none).expect_err("no queues").problem, PortProblem::NoQueues));
    assert_eq!(pool.available(), pool.capacity());
}
