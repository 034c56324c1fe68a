// SPDX-License-Identifier: GPL-2.0
#define VFIO_RUST_TRACE_SYSTEM mlx5_vfio_pci_rust
#include "../../rust/helpers.c"
