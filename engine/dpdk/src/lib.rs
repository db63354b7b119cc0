//! DPDK ports, queues and buffers for the engine.
