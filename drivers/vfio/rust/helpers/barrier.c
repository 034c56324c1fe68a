// SPDX-License-Identifier: GPL-2.0

#include <asm/barrier.h>

void vfio_rust_dma_rmb(void)
{
	dma_rmb();
}

void vfio_rust_dma_wmb(void)
{
	dma_wmb();
}
