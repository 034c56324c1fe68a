/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel crate's helpers lack. */

#ifndef VFIO_RUST_HELPERS_HELPERS_H
#define VFIO_RUST_HELPERS_HELPERS_H

#include <linux/dma-direction.h>
#include <linux/types.h>

struct device;
struct module;
struct page;
struct wait_queue_head;

struct page *vfio_rust_alloc_run(unsigned int order, bool zero);
bool vfio_rust_memory_has(size_t len);
void *vfio_rust_page_address(struct page *page);
unsigned long vfio_rust_copy_page_to_user(void __user *to, struct page *page,
					  size_t offset, size_t len);
unsigned long vfio_rust_copy_page_from_user(struct page *page, size_t offset,
					    const void __user *from,
					    size_t len);

bool vfio_rust_fatal_signal_pending(void);

bool vfio_rust_within_module(const void *address, const struct module *module);

int vfio_rust_dma_map(struct device *dev, struct page *page, size_t offset,
		      size_t len, enum dma_data_direction dir, dma_addr_t *addr);
void vfio_rust_dma_unmap(struct device *dev, dma_addr_t addr, size_t len,
			 enum dma_data_direction dir);
void vfio_rust_dma_sync_for_cpu(struct device *dev, dma_addr_t addr,
				size_t len, enum dma_data_direction dir);
void vfio_rust_dma_sync_for_device(struct device *dev, dma_addr_t addr,
				   size_t len, enum dma_data_direction dir);

void vfio_rust_dma_rmb(void);
void vfio_rust_dma_wmb(void);

void vfio_rust_init_waitqueue_head(struct wait_queue_head *queue);
void vfio_rust_wake_up_waiters(struct wait_queue_head *queue);
void vfio_rust_wait_while(struct wait_queue_head *queue, const u32 *word,
			  u32 value);
int vfio_rust_wait_while_interruptible(struct wait_queue_head *queue,
				       const u32 *word, u32 value);

void vfio_rust_warn_ratelimited(struct device *dev, const char *what);

#endif /* VFIO_RUST_HELPERS_HELPERS_H */
