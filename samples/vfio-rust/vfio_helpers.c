// SPDX-License-Identifier: GPL-2.0
#define VFIO_RUST_TRACE_SYSTEM vfio_ivshmem_rust
#include "../../drivers/vfio/rust/helpers.c"
