/*
 * What Rust needs of DPDK beyond its exported functions: the inline ones as
 * real functions, the flags that are macros as constants, and the part of an
 * mbuf that the packet path touches.
 */
#ifndef TIELINE_SHIM_H
#define TIELINE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/*
 * The first cache line of an mbuf. The fields stand where DPDK has them
 * (shim.c asserts it), but without the anonymous unions and structs, which
 * differ between releases and would give each release other Rust names.
 */
struct tieline_mbuf {
	void *buf_addr;
	uint64_t iova_or_next;
	uint16_t data_off;
	uint16_t refcnt;
	uint16_t nb_segs;
	uint16_t port;
	uint64_t ol_flags;
	uint32_t packet_type;
	uint32_t pkt_len;
	uint16_t data_len;
	uint16_t vlan_tci;
	uint32_t hash[2];
	uint16_t vlan_tci_outer;
	uint16_t buf_len;
	struct rte_mempool *pool;
};

static const uint64_t TIELINE_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t TIELINE_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t TIELINE_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t TIELINE_RSS_IP_TCP_UDP = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;

/* Receives each line that DPDK logs; not terminated by a zero. */
typedef void (*tieline_log_sink)(const char *text, size_t length);

/* Sends DPDK's log to `sink` from now on, instead of to syslog. Zero or -1. */
int tieline_log_to(tieline_log_sink sink);

/* rte_errno of the calling thread. */
int tieline_errno(void);

/* Identifier of the calling thread, or TIELINE_NO_LCORE. */
unsigned int tieline_lcore_id(void);
static const unsigned int TIELINE_NO_LCORE = LCORE_ID_ANY;

uint16_t tieline_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
uint16_t tieline_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);

/*
 * rte_pktmbuf_pool_create without its rule that no buffer may cross a page:
 * with pages of 4 KiB that would give each buffer a page. NULL and rte_errno
 * if it fails. `crosses_pages` is sound where I/O addresses are virtual ones.
 */
struct rte_mempool *tieline_pktmbuf_pool_create(const char *name, unsigned int count, unsigned int cache,
						uint16_t room, int crosses_pages);

/* NULL if the pool is empty. */
struct rte_mbuf *tieline_pktmbuf_alloc(struct rte_mempool *pool);
void tieline_pktmbuf_free(struct rte_mbuf *packet);

/* Moves all segments into the first. -1 if it has no room. */
int tieline_pktmbuf_linearize(struct rte_mbuf *packet);

/* 1 up, 0 down, negative errno. */
int tieline_eth_link_up(uint16_t port);

#endif
