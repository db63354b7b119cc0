//! One EAL for all tests of a process, and ports to test with.

#![allow(dead_code, reason = "each test process uses a part")]

use std::sync::OnceLock;

use tieline_dpdk::{Eal, EalConfig, Hugepages, OpenPort, Pool, PoolConfig, Port, PortConfig, PortError};
use tieline_engine::io::BufferPool as _;
use tieline_engine::packet::buffer::PacketBuf as _;

/// The EAL as a plain user without hugepages gets it.
pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig {
            file_prefix: format!("tieline-test-{}", std::process::id()),
            hugepages: Hugepages::Never,
            ..EalConfig::default()
        };
        Eal::start(config).expect("the EAL starts")
    })
}

/// A pool without caches, so that counts are exact.
pub fn pool(name: &str, count: u32, data_room: u16) -> Pool {
    Pool::new(eal(), PoolConfig { name: name.to_owned(), count, data_room, cache: 0 }).expect("a pool")
}

/// A port with one queue in each direction.
pub fn config(device: &str) -> PortConfig {
    PortConfig {
        name: format!("test-{device}"),
        device: device.parse().expect("a device"),
        mtu: 1500,
        rx_queues: 1,
        tx_queues: 1,
        rx_descriptors: 256,
        tx_descriptors: 256,
    }
}

/// Opens a port with one queue in each direction.
pub fn open(pool: &Pool, device: &str) -> Result<OpenPort, PortError> {
    Port::open(eal(), pool, &config(device))
}

/// A packet that holds `frame`.
pub fn packet(pool: &Pool, frame: &[u8]) -> tieline_dpdk::Mbuf {
    let mut packet = pool.clone().alloc().expect("a free buffer");
    assert!(packet.append(frame.len()), "the frame fits");
    packet.bytes_mut().copy_from_slice(frame);
    packet
}
