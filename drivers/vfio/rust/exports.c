// SPDX-License-Identifier: GPL-2.0
/*
 * Exports what the crate defines, and what it calls in drivers: generic functions
 * are compiled there.
 */

#include <linux/export.h>
#include <linux/module.h>

/* C does not know the types, and only needs the addresses. */
#include "exports_generated.h"

MODULE_AUTHOR("The mlx5_vfio_pci_rust developers");
MODULE_DESCRIPTION("Rust abstractions for VFIO PCI variant drivers");
MODULE_LICENSE("GPL");
/* For iova_bitmap_set(). */
MODULE_IMPORT_NS("IOMMUFD");
