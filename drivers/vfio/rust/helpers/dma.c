// SPDX-License-Identifier: GPL-2.0

#include <linux/dma-mapping.h>
#include <linux/mm.h>

/*
 * @offset is in the run of pages that begins with @page. If more than a page
 * cannot be mapped, do not warn: the caller tries again with less.
 */
int vfio_rust_dma_map(struct device *dev, struct page *page, size_t offset,
		      size_t len, enum dma_data_direction dir, dma_addr_t *addr)
{
	*addr = dma_map_page_attrs(dev, page + offset / PAGE_SIZE,
				   offset % PAGE_SIZE, len, dir,
				   len > PAGE_SIZE ? DMA_ATTR_NO_WARN : 0);
	return dma_mapping_error(dev, *addr);
}

void vfio_rust_dma_unmap(struct device *dev, dma_addr_t addr, size_t len,
			 enum dma_data_direction dir)
{
	dma_unmap_page(dev, addr, len, dir);
}

void vfio_rust_dma_sync_for_cpu(struct device *dev, dma_addr_t addr,
				size_t len, enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(dev, addr, len, dir);
}

void vfio_rust_dma_sync_for_device(struct device *dev, dma_addr_t addr,
				   size_t len, enum dma_data_direction dir)
{
	dma_sync_single_for_device(dev, addr, len, dir);
}
