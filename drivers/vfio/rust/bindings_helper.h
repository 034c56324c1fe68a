/* SPDX-License-Identifier: GPL-2.0 */
/* Read by bindgen, which makes vfio_bindings_generated.rs of it. */

#ifndef VFIO_RUST_BINDINGS_HELPER_H
#define VFIO_RUST_BINDINGS_HELPER_H

#include <linux/anon_inodes.h>
#include <linux/interval_tree.h>
#include <linux/iova_bitmap.h>
#include <linux/pci.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>
#include <trace/events/vfio_migration.h>

#include "helpers.h"

/* bindgen has neither values of an unnamed enum, nor macros that contain a cast. */
static const unsigned int vfio_rust_region_bar0 = VFIO_PCI_BAR0_REGION_INDEX;
static const unsigned int vfio_rust_region_bar5 = VFIO_PCI_BAR5_REGION_INDEX;
static const unsigned int vfio_rust_region_rom = VFIO_PCI_ROM_REGION_INDEX;
static const unsigned int vfio_rust_region_config = VFIO_PCI_CONFIG_REGION_INDEX;
static const unsigned int vfio_rust_region_vga = VFIO_PCI_VGA_REGION_INDEX;
static const unsigned int vfio_rust_ioctl_reset = VFIO_DEVICE_RESET;
static const unsigned int vfio_rust_ioctl_ioeventfd = VFIO_DEVICE_IOEVENTFD;

#endif /* VFIO_RUST_BINDINGS_HELPER_H */
