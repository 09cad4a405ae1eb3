/* SPDX-License-Identifier: Apache-2.0
 * DPDK's headers as they are bound, and inline functions for what Rust cannot reach: macros, thread-local
 * variables, bit fields and fields whose place differs between 22.11 and 24.11. One call per burst, never one
 * per frame.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_version.h>

_Static_assert(sizeof(struct rte_mbuf) == 128, "an rte_mbuf is two cache lines");
_Static_assert(RTE_PKTMBUF_HEADROOM == 128, "drivers receive behind as much headroom as the engine keeps");
_Static_assert(sizeof(((struct rte_mbuf *)0)->shinfo) == sizeof(uint64_t), "a handle fits");

/* Most headers of one call. */
#define SG_BURST 64

/* A buffer of the engine's, and the data in it. */
struct sg_buffer {
	uint64_t handle;     /* of the engine; never 0 */
	void *start;         /* first byte of its headroom */
	uint32_t bytes;      /* headroom and room for data */
	uint32_t len;        /* bytes of data */
	uint32_t offset;     /* of the data, from start */
	uint32_t tci;        /* tag that the device took off, if tagged */
	uint32_t tagged;     /* 0 or 1 */
};

/* rte_errno is a macro over a thread-local variable. */
static inline int sg_errno(void)
{
	return rte_errno;
}

/* Puts buffers behind headers, and their handles into shinfo, which nobody reads while an mbuf is direct. */
static inline void sg_attach(void *const *headers, const struct sg_buffer *buffers, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = (struct rte_mbuf *)headers[i];
		m->buf_addr = buffers[i].start;
		rte_mbuf_iova_set(m, (rte_iova_t)(uintptr_t)buffers[i].start);
		m->buf_len = (uint16_t)buffers[i].bytes;
		m->shinfo = (struct rte_mbuf_ext_shared_info *)(uintptr_t)buffers[i].handle;
	}
}

/* Takes buffers from behind headers: their handles, 0 where there was none. */
static inline void sg_detach(void *const *headers, uint64_t *handles, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = (struct rte_mbuf *)headers[i];
		handles[i] = (uint64_t)(uintptr_t)m->shinfo;
		m->shinfo = NULL;
	}
}

/* As sg_attach, and says which bytes are to be sent. */
static inline void sg_describe(void *const *headers, const struct sg_buffer *buffers, unsigned int n)
{
	sg_attach(headers, buffers, n);
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = (struct rte_mbuf *)headers[i];
		m->data_off = (uint16_t)buffers[i].offset;
		m->data_len = (uint16_t)buffers[i].len;
		m->pkt_len = buffers[i].len;
		m->ol_flags = 0;
		m->packet_type = 0;
		m->tx_offload = 0;
		m->nb_segs = 1;
		m->next = NULL;
		rte_mbuf_refcnt_set(m, 1);
	}
}

/* Receives at most n <= SG_BURST frames. Their headers are taken off: those of pool `own` come first in `headers`,
 * *own_headers of them, ready to be used again; others are back in their pools. A frame in several pieces is
 * freed, and its handle is 0. */
static inline uint16_t sg_rx_burst(uint16_t port, uint16_t queue, struct rte_mempool *own, void **headers,
	struct sg_buffer *buffers, uint16_t n, uint16_t *own_headers)
{
	struct rte_mbuf *mbufs[SG_BURST];
	uint16_t ours = 0;
	uint16_t got = rte_eth_rx_burst(port, queue, mbufs, n < SG_BURST ? n : SG_BURST);

	for (uint16_t i = 0; i < got; i++) {
		struct rte_mbuf *m = mbufs[i];

		if (i + 1 < got)
			rte_prefetch0(mbufs[i + 1]);
		buffers[i].handle = 0;
		buffers[i].tagged = 0;
		if (m->nb_segs != 1 || rte_mbuf_refcnt_read(m) != 1) {
			rte_pktmbuf_free(m);
			continue;
		}
		buffers[i].handle = (uint64_t)(uintptr_t)m->shinfo;
		buffers[i].start = m->buf_addr;
		buffers[i].bytes = m->buf_len;
		buffers[i].len = m->data_len;
		buffers[i].offset = m->data_off;
		buffers[i].tci = m->vlan_tci;
		buffers[i].tagged = (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
		m->shinfo = NULL;
		m->next = NULL;
		m->ol_flags = 0;
		if (m->pool == own)
			headers[ours++] = m;
		else
			rte_mempool_put(m->pool, m);
	}
	*own_headers = ours;
	return got;
}

static inline void sg_header_init(struct rte_mempool *pool, void *arg, void *object, unsigned int i)
{
	struct rte_mbuf *m = (struct rte_mbuf *)object;

	(void)arg;
	(void)i;
	memset(m, 0, sizeof(*m));
	m->pool = pool;
	m->nb_segs = 1;
	m->port = RTE_MBUF_PORT_INVALID;
	m->data_off = RTE_PKTMBUF_HEADROOM;
	rte_mbuf_refcnt_set(m, 1);
}

/* Makes a pool of n headers without buffers over the mempool ops of that name, which get `config`. NULL, and
 * rte_errno, if that fails. `room` is what drivers take for the size of each buffer. */
static inline struct rte_mempool *sg_headers_create(const char *name, unsigned int n, const char *ops, void *config,
	uint16_t room)
{
	struct rte_pktmbuf_pool_private private_data;
	struct rte_mempool *pool;
	int error;

	memset(&private_data, 0, sizeof(private_data));
	private_data.mbuf_data_room_size = room;
	pool = rte_mempool_create_empty(name, n, sizeof(struct rte_mbuf), 0, sizeof(private_data), SOCKET_ID_ANY, 0);
	if (pool == NULL)
		return NULL;
	error = rte_mempool_set_ops_byname(pool, ops, config);
	if (error == 0) {
		rte_pktmbuf_pool_init(pool, &private_data);
		error = rte_mempool_populate_default(pool);
	}
	if (error < 0) {
		rte_mempool_free(pool);
		rte_errno = -error;
		return NULL;
	}
	rte_mempool_obj_iter(pool, sg_header_init, NULL);
	return pool;
}

static inline void *sg_pool_config(const struct rte_mempool *pool)
{
	return pool->pool_config;
}

static inline void *sg_pool_data(const struct rte_mempool *pool)
{
	return pool->pool_data;
}

static inline void sg_set_pool_data(struct rte_mempool *pool, void *data)
{
	pool->pool_data = data;
}

/* Facts about a port, of rte_eth_dev_info. */
struct sg_facts {
	const char *driver;
	struct rte_device *device;
	uint32_t vlan_filter; /* whether the device filters VLANs: 0 or 1 */
	uint16_t min_mtu;
	uint16_t max_mtu;
	uint32_t max_macs;
};

static inline int sg_facts(uint16_t port, struct sg_facts *facts)
{
	struct rte_eth_dev_info info;
	int error = rte_eth_dev_info_get(port, &info);

	memset(facts, 0, sizeof(*facts));
	if (error != 0)
		return error;
	facts->driver = info.driver_name;
	facts->device = info.device;
	facts->vlan_filter = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER) != 0;
	facts->min_mtu = info.min_mtu;
	facts->max_mtu = info.max_mtu;
	facts->max_macs = info.max_mac_addrs;
	return 0;
}

/* One queue each way, no offloads but the VLAN filter if vlan_filter is not 0. */
static inline int sg_configure(uint16_t port, uint32_t mtu, int vlan_filter)
{
	struct rte_eth_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = mtu;
	conf.rxmode.offloads = vlan_filter ? RTE_ETH_RX_OFFLOAD_VLAN_FILTER : 0;
	return rte_eth_dev_configure(port, 1, 1, &conf);
}

/* 1 if the link is up, 0 if it is down, negative errno. */
static inline int sg_link_up(uint16_t port)
{
	struct rte_eth_link link;
	int error = rte_eth_link_get_nowait(port, &link);

	return error < 0 ? error : link.link_status == RTE_ETH_LINK_UP;
}

typedef void (*sg_log_line)(const char *text, size_t len);

static inline ssize_t sg_log_write(void *cookie, const char *text, size_t len)
{
	((sg_log_line)cookie)(text, len);
	return (ssize_t)len;
}

/* Sends each line of DPDK's log to a function. */
static inline int sg_log_to(sg_log_line function)
{
	cookie_io_functions_t functions;
	FILE *stream;

	memset(&functions, 0, sizeof(functions));
	functions.write = sg_log_write;
	stream = fopencookie((void *)function, "w", functions);
	if (stream == NULL)
		return -errno;
	setvbuf(stream, NULL, _IOLBF, 1024);
	return rte_openlog_stream(stream);
}
