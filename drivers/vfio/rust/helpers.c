// SPDX-License-Identifier: GPL-2.0

#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio_pci_core.h>

#include "helpers.h"

#include "helpers/helpers.c"

#define CREATE_TRACE_POINTS
#include <trace/events/vfio_migration.h>

/* Drivers access the keys, too: the crate's inline functions do that. */
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_arc);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_save_begin);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_save_end);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_load_begin);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_load_end);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_dirty_report);
EXPORT_TRACEPOINT_SYMBOL_GPL(vfio_migration_precopy_info);

/*
 * @reinit tells whether user space has opted in to VFIO_PRECOPY_INFO_REINIT. It
 * is read first, since user space may opt in at any time: if @reinit is set,
 * vfio_check_precopy_ioctl() must have cleared @info's flags.
 */
int vfio_rust_check_precopy(struct vfio_device *vdev, unsigned int cmd,
			    unsigned long arg, struct vfio_precopy_info *info,
			    bool *reinit)
{
	*reinit = READ_ONCE(vdev->precopy_info_v2);
	return vfio_check_precopy_ioctl(vdev, cmd, arg, info);
}

/* VFIO has a reference to the module of the driver of an open device. */
struct module *vfio_rust_get_driver(struct vfio_device *vdev)
{
	struct module *owner = vdev->dev->driver->owner;

	__module_get(owner);
	return owner;
}

void vfio_rust_put_driver(struct module *owner)
{
	module_put(owner);
}

/* The size is a constant here, so the compiler can check it. */
int vfio_rust_put_precopy_info(unsigned long arg,
			       const struct vfio_precopy_info *info)
{
	if (copy_to_user((void __user *)arg, info, sizeof(*info)))
		return -EFAULT;
	return 0;
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

/* Adds the capability of a region of which only parts can be mapped. */
int vfio_rust_add_sparse_mmap(struct vfio_info_cap *caps,
			      const struct vfio_region_sparse_mmap_area *areas,
			      u32 count)
{
	struct vfio_region_info_cap_sparse_mmap *sparse;
	size_t size = struct_size(sparse, areas, count);
	int ret;

	sparse = kzalloc(size, GFP_KERNEL);
	if (!sparse)
		return -ENOMEM;
	sparse->header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
	sparse->header.version = 1;
	sparse->nr_areas = count;
	memcpy(sparse->areas, areas, size - offsetof(typeof(*sparse), areas));
	ret = vfio_info_add_capability(caps, &sparse->header, size);
	kfree(sparse);
	return ret;
}

/*
 * VFIO powers the device up for ioctls only, not for read(), write() and mmap().
 * Resuming it takes memory_lock.
 */
int vfio_rust_power_up(struct vfio_pci_core_device *core)
{
	return pm_runtime_resume_and_get(&core->pdev->dev) < 0 ? -EIO : 0;
}

void vfio_rust_power_release(struct vfio_pci_core_device *core)
{
	pm_runtime_put(&core->pdev->dev);
}

/*
 * Does what the accessors of vfio_pci_core do before an access. Until
 * vfio_rust_memory_read_unlock(), user space cannot turn memory decoding off,
 * nor reset the device through VFIO.
 */
int vfio_rust_memory_read_lock(struct vfio_pci_core_device *core)
{
	down_read(&core->memory_lock);
	if (__vfio_pci_memory_enabled(core))
		return 0;
	up_read(&core->memory_lock);
	return -EIO;
}

void vfio_rust_memory_read_unlock(struct vfio_pci_core_device *core)
{
	up_read(&core->memory_lock);
}

/*
 * vfio_pci_memory_lock_and_enable() is not exported. Until
 * vfio_rust_memory_unlock(), nobody can turn memory decoding off, power the
 * device down or reset it through VFIO. The caller must have powered it up.
 */
int vfio_rust_memory_lock(struct vfio_pci_core_device *core,
			  bool *was_decoding)
{
	struct pci_dev *pdev = core->pdev;
	u16 command;

	down_write(&core->memory_lock);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	/*
	 * Fail in D3hot, which user space has to leave: that may reset the
	 * device, and vfio_pci_core then restores its configuration.
	 */
	if (pdev->current_state >= PCI_D3hot || PCI_POSSIBLE_ERROR(command)) {
		up_write(&core->memory_lock);
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
		/* Read again: INTx is masked in this register without memory_lock. */
		pci_read_config_word(pdev, PCI_COMMAND, &command);
		pci_write_config_word(pdev, PCI_COMMAND,
				      command & ~PCI_COMMAND_MEMORY);
	}
	up_write(&core->memory_lock);
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
