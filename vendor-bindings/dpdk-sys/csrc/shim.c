#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fopencookie */
#endif

#include "shim.h"

#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <rte_log.h>
#include <rte_mbuf_pool_ops.h>

#define SAME_PLACE(ours, theirs)                                                                   \
	_Static_assert(offsetof(struct tieline_mbuf, ours) == offsetof(struct rte_mbuf, theirs) && \
			       sizeof(((struct tieline_mbuf *)0)->ours) ==                         \
				       sizeof(((struct rte_mbuf *)0)->theirs),                     \
		       "tieline_mbuf." #ours " differs from this DPDK's mbuf")

SAME_PLACE(buf_addr, buf_addr);
SAME_PLACE(data_off, data_off);
SAME_PLACE(refcnt, refcnt);
SAME_PLACE(nb_segs, nb_segs);
SAME_PLACE(port, port);
SAME_PLACE(ol_flags, ol_flags);
SAME_PLACE(packet_type, packet_type);
SAME_PLACE(pkt_len, pkt_len);
SAME_PLACE(data_len, data_len);
SAME_PLACE(vlan_tci, vlan_tci);
SAME_PLACE(hash, hash);
SAME_PLACE(vlan_tci_outer, vlan_tci_outer);
SAME_PLACE(buf_len, buf_len);
SAME_PLACE(pool, pool);

static tieline_log_sink log_sink;

static ssize_t write_log(void *cookie, const char *text, size_t length)
{
	(void)cookie;
	log_sink(text, length);
	return (ssize_t)length;
}

int tieline_log_to(tieline_log_sink sink)
{
	cookie_io_functions_t functions = { .write = write_log };
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	setvbuf(stream, NULL, _IOLBF, BUFSIZ);
	return rte_openlog_stream(stream);
}

int tieline_errno(void)
{
	return rte_errno;
}

unsigned int tieline_lcore_id(void)
{
	return rte_lcore_id();
}

uint16_t tieline_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t tieline_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

struct rte_mempool *tieline_pktmbuf_pool_create(const char *name, unsigned int count, unsigned int cache,
						uint16_t room, int crosses_pages)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = room };
	struct rte_mempool *pool;
	int status;

	pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + room, cache, sizeof(private),
					SOCKET_ID_ANY, crosses_pages ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0);
	if (pool == NULL)
		return NULL;
	status = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (status == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		status = rte_mempool_populate_default(pool);
	}
	if (status < 0) {
		rte_mempool_free(pool);
		rte_errno = -status;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

struct rte_mbuf *tieline_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void tieline_pktmbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

int tieline_pktmbuf_linearize(struct rte_mbuf *packet)
{
	return rte_pktmbuf_linearize(packet);
}

int tieline_eth_link_up(uint16_t port)
{
	struct rte_eth_link link;
	int status;

	memset(&link, 0, sizeof(link));
	status = rte_eth_link_get_nowait(port, &link);
	return status < 0 ? status : (int)link.link_status;
}
