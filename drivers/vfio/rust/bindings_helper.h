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

#endif /* VFIO_RUST_BINDINGS_HELPER_H */
