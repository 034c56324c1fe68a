// SPDX-License-Identifier: GPL-2.0

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vfio_pci_core.h>
#include <linux/wait.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#include <trace/events/vfio_migration.h>

/* Drivers look at their keys, too: inline functions are compiled there. */
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_arc);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_save_begin);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_save_end);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_load_begin);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_load_end);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_dirty_report);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_precopy_info);

/*
 * The caller can do without orders above 0: do not reclaim hard for them, and
 * do not complain if there are none.
 */
struct page *vfio_rust_alloc_pages(unsigned int order, bool zero)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT;

	if (order)
		gfp |= __GFP_NORETRY | __GFP_NOWARN;
	if (zero)
		gfp |= __GFP_ZERO;
	return alloc_pages(gfp, order);
}

void vfio_rust_free_pages(struct page *page, unsigned int order)
{
	__free_pages(page, order);
}

/*
 * Pages that vfio_rust_alloc_pages() has returned are in no highmem: a run of
 * them is mapped as a whole.
 */
void *vfio_rust_page_address(struct page *page)
{
	return page_address(page);
}

unsigned long vfio_rust_copy_to_user(void __user *to, struct page *page,
				     size_t offset, size_t len)
{
	return copy_to_user(to, page_address(page) + offset, len);
}

unsigned long vfio_rust_copy_from_user(struct page *page, size_t offset,
				       const void __user *from, size_t len)
{
	return copy_from_user(page_address(page) + offset, from, len);
}

/* Here the compiler knows how long it is, so that nobody has to check that. */
int vfio_rust_get_precopy_info(struct vfio_precopy_info *info,
			       unsigned long arg)
{
	if (copy_from_user(info, (void __user *)arg, sizeof(*info)))
		return -EFAULT;
	return 0;
}

int vfio_rust_put_precopy_info(unsigned long arg,
			       const struct vfio_precopy_info *info)
{
	if (copy_to_user((void __user *)arg, info, sizeof(*info)))
		return -EFAULT;
	return 0;
}

bool vfio_rust_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

static enum dma_data_direction direction(bool to_device)
{
	return to_device ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
}

size_t vfio_rust_dma_max_mapping_size(struct device *dev)
{
	return dma_max_mapping_size(dev);
}

/*
 * @offset is in the run of pages that begins with @page. Where there is no room
 * for more than a page, the caller tries less: that is not worth a message.
 */
int vfio_rust_dma_map(struct device *dev, struct page *page, size_t offset,
		      size_t len, bool to_device, dma_addr_t *addr)
{
	*addr = dma_map_page_attrs(dev, page + offset / PAGE_SIZE,
				   offset % PAGE_SIZE, len,
				   direction(to_device),
				   len > PAGE_SIZE ? DMA_ATTR_NO_WARN : 0);
	return dma_mapping_error(dev, *addr);
}

void vfio_rust_dma_unmap(struct device *dev, dma_addr_t addr, size_t len,
			 bool to_device)
{
	dma_unmap_page(dev, addr, len, direction(to_device));
}

void vfio_rust_dma_sync_for_cpu(struct device *dev, dma_addr_t addr,
				size_t len)
{
	dma_sync_single_for_cpu(dev, addr, len, DMA_FROM_DEVICE);
}

void vfio_rust_dma_sync_for_device(struct device *dev, dma_addr_t addr,
				   size_t len)
{
	dma_sync_single_for_device(dev, addr, len, DMA_TO_DEVICE);
}

void *vfio_rust_dma_alloc_coherent(struct device *dev, size_t len,
				   dma_addr_t *dma)
{
	return dma_alloc_coherent(dev, len, dma, GFP_KERNEL_ACCOUNT);
}

void vfio_rust_dma_free_coherent(struct device *dev, size_t len, void *cpu,
				 dma_addr_t dma)
{
	dma_free_coherent(dev, len, cpu, dma);
}

void vfio_rust_dma_rmb(void)
{
	dma_rmb();
}

void vfio_rust_dma_wmb(void)
{
	dma_wmb();
}

void vfio_rust_init_completion(struct completion *completion)
{
	init_completion(completion);
}

/* Returns 0 after @ms milliseconds, and less if the process is killed. */
long vfio_rust_wait_killable_timeout(struct completion *completion,
				     unsigned int ms)
{
	return wait_for_completion_killable_timeout(completion,
						    msecs_to_jiffies(ms));
}

void vfio_rust_init_waitqueue_head(struct wait_queue_head *queue)
{
	init_waitqueue_head(queue);
}

/*
 * Nobody waits most of the time. Whoever does is in @queue before it looks at
 * what the caller has changed.
 */
void vfio_rust_wake_up_all(struct wait_queue_head *queue)
{
	if (wq_has_sleeper(queue))
		wake_up_all(queue);
}

void vfio_rust_wait_while(struct wait_queue_head *queue, const u32 *word,
			  u32 value)
{
	wait_event(*queue, READ_ONCE(*word) != value);
}

int vfio_rust_wait_while_interruptible(struct wait_queue_head *queue,
				       const u32 *word, u32 value)
{
	return wait_event_interruptible(*queue, READ_ONCE(*word) != value);
}

void vfio_rust_set_drvdata(struct pci_dev *pdev, void *data)
{
	pci_set_drvdata(pdev, data);
}

void *vfio_rust_get_drvdata(struct pci_dev *pdev)
{
	return pci_get_drvdata(pdev);
}

bool vfio_rust_is_virtfn(struct pci_dev *pdev)
{
	return pdev->is_virtfn;
}

/* Returns 0 if there is no such memory BAR. */
u64 vfio_rust_bar_len(struct pci_dev *pdev, unsigned int index)
{
	if (index >= PCI_STD_NUM_BARS ||
	    !(pci_resource_flags(pdev, index) & IORESOURCE_MEM))
		return 0;
	return pci_resource_len(pdev, index);
}

/* Returns vfio_pci_core's mapping, or null. The device must be open. */
void __iomem *vfio_rust_bar_base(struct vfio_pci_core_device *core,
				 unsigned int index)
{
	void __iomem *base;

	if (!vfio_rust_bar_len(core->pdev, index))
		return NULL;
	base = vfio_pci_core_get_iomap(core, index);
	return IS_ERR(base) ? NULL : base;
}

/*
 * vfio_pci_memory_lock_and_enable() is not exported; this keeps the device
 * powered up as well. Until vfio_rust_memory_unlock(), nobody can turn decoding
 * of memory off, power the device down or reset it by way of VFIO.
 */
int vfio_rust_memory_lock(struct vfio_pci_core_device *core,
			  bool *was_decoding)
{
	struct pci_dev *pdev = core->pdev;
	u16 command;
	int ret;

	/* Before the lock: resuming takes it. */
	ret = pm_runtime_resume_and_get(&pdev->dev);
	if (ret < 0)
		return ret;

	down_write(&core->memory_lock);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	/*
	 * D3hot is user space's to leave: it may come with a reset of the
	 * device, whose configuration vfio_pci_core would have to restore.
	 */
	if (pdev->current_state >= PCI_D3hot || PCI_POSSIBLE_ERROR(command)) {
		up_write(&core->memory_lock);
		pm_runtime_put(&pdev->dev);
		return -EIO;
	}
	*was_decoding = command & PCI_COMMAND_MEMORY;
	if (!*was_decoding)
		pci_write_config_word(pdev, PCI_COMMAND,
				      command | PCI_COMMAND_MEMORY);
	return 0;
}

void vfio_rust_memory_unlock(struct vfio_pci_core_device *core,
			     bool was_decoding)
{
	struct pci_dev *pdev = core->pdev;
	u16 command;

	if (!was_decoding) {
		/* Read again: INTx is masked there without the lock. */
		pci_read_config_word(pdev, PCI_COMMAND, &command);
		pci_write_config_word(pdev, PCI_COMMAND,
				      command & ~PCI_COMMAND_MEMORY);
	}
	up_write(&core->memory_lock);
	pm_runtime_put(&pdev->dev);
}

void vfio_rust_copy_from_bar(struct page *page, const void __iomem *from,
			     size_t len)
{
	while (len) {
		size_t n = min_t(size_t, len, PAGE_SIZE);
		void *to = kmap_local_page(page++);

		memcpy_fromio(to, from, n);
		kunmap_local(to);
		cond_resched();
		from += n;
		len -= n;
	}
}

void vfio_rust_copy_to_bar(void __iomem *to, struct page *page, size_t len)
{
	while (len) {
		size_t n = min_t(size_t, len, PAGE_SIZE);
		void *from = kmap_local_page(page++);

		memcpy_toio(to, from, n);
		kunmap_local(from);
		cond_resched();
		to += n;
		len -= n;
	}
}

long vfio_rust_compat_ptr_ioctl(struct file *file, unsigned int cmd,
				unsigned long arg)
{
	/* An inline function, or a null pointer, without CONFIG_COMPAT. */
#ifdef CONFIG_COMPAT
	return compat_ptr_ioctl(file, cmd, arg);
#else
	return -ENOTTY;
#endif
}

void vfio_rust_warn_ratelimited(struct device *dev, const char *what)
{
	dev_warn_ratelimited(dev, "%s\n", what);
}

void vfio_rust_trace_arc(struct device *dev, u32 from, u32 to, int ret,
			 s64 ns)
{
	trace_vfio_migration_arc(dev, from, to, ret, ns);
}

void vfio_rust_trace_save_begin(struct device *dev, u64 room)
{
	trace_vfio_migration_save_begin(dev, room);
}

void vfio_rust_trace_save_end(struct device *dev, u64 bytes, int ret, s64 ns)
{
	trace_vfio_migration_save_end(dev, bytes, ret, ns);
}

void vfio_rust_trace_load_begin(struct device *dev, u64 bytes)
{
	trace_vfio_migration_load_begin(dev, bytes);
}

void vfio_rust_trace_load_end(struct device *dev, u64 bytes, int ret, s64 ns)
{
	trace_vfio_migration_load_end(dev, bytes, ret, ns);
}

void vfio_rust_trace_dirty_report(struct device *dev, u64 bytes, int ret,
				  s64 ns)
{
	trace_vfio_migration_dirty_report(dev, bytes, ret, ns);
}

void vfio_rust_trace_precopy_info(struct device *dev, u64 initial, u64 dirty,
				  bool reinit)
{
	trace_vfio_migration_precopy_info(dev, initial, dirty, reinit);
}
