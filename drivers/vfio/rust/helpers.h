/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C side of the VFIO abstractions: functions around macros and inline
 * functions of the kernel's headers, which Rust cannot call.
 *
 * bindgen reads this file, too: the Rust signatures are made from it.
 */

#ifndef VFIO_RUST_HELPERS_H
#define VFIO_RUST_HELPERS_H

#include <linux/types.h>

#include "helpers/helpers.h"

struct device;
struct module;
struct page;
struct pci_dev;
struct vfio_device;
struct vfio_info_cap;
struct vfio_pci_core_device;
struct vfio_precopy_info;
struct vfio_region_sparse_mmap_area;

int vfio_rust_check_precopy(struct vfio_device *vdev, unsigned int cmd,
			    unsigned long arg, struct vfio_precopy_info *info,
			    bool *reinit);
struct module *vfio_rust_get_driver(struct vfio_device *vdev);
void vfio_rust_put_driver(struct module *owner);

int vfio_rust_put_precopy_info(unsigned long arg,
			       const struct vfio_precopy_info *info);

u64 vfio_rust_bar_len(struct pci_dev *pdev, unsigned int index);
void __iomem *vfio_rust_bar_base(struct vfio_pci_core_device *core,
				 unsigned int index);
int vfio_rust_add_sparse_mmap(struct vfio_info_cap *caps,
			      const struct vfio_region_sparse_mmap_area *areas,
			      u32 count);
int vfio_rust_power_up(struct vfio_pci_core_device *core);
void vfio_rust_power_release(struct vfio_pci_core_device *core);
int vfio_rust_memory_read_lock(struct vfio_pci_core_device *core);
void vfio_rust_memory_read_unlock(struct vfio_pci_core_device *core);
int vfio_rust_memory_lock(struct vfio_pci_core_device *core,
			  bool *was_decoding);
void vfio_rust_memory_unlock(struct vfio_pci_core_device *core,
			     bool was_decoding);
void vfio_rust_copy_from_bar(struct page *page, const void __iomem *from,
			     size_t len);
void vfio_rust_copy_to_bar(void __iomem *to, struct page *page, size_t len);

void vfio_rust_trace_arc(struct device *dev, u32 from, u32 to, int ret,
			 s64 ns);
void vfio_rust_trace_save_begin(struct device *dev, u64 room);
void vfio_rust_trace_save_end(struct device *dev, u64 bytes, int ret, s64 ns);
void vfio_rust_trace_load_begin(struct device *dev, u64 bytes);
void vfio_rust_trace_load_end(struct device *dev, u64 bytes, int ret, s64 ns);
void vfio_rust_trace_dirty_report(struct device *dev, u64 bytes, int ret,
				  s64 ns);
void vfio_rust_trace_precopy_info(struct device *dev, u64 initial, u64 dirty,
				  bool reinit);

#endif /* VFIO_RUST_HELPERS_H */
