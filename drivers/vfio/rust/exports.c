// SPDX-License-Identifier: GPL-2.0
/*
 * Exports the symbols of the crate, and the helpers that its generic functions
 * call: those functions are compiled into drivers.
 */

#include <linux/export.h>
#include <linux/module.h>

/* The declarations have no Rust types, since only addresses are exported. */
#include "exports_generated.h"

MODULE_AUTHOR("The mlx5_vfio_pci_rust developers");
MODULE_DESCRIPTION("Rust abstractions for VFIO PCI variant drivers");
MODULE_LICENSE("GPL");
/* For iova_bitmap_set(). */
MODULE_IMPORT_NS("IOMMUFD");
