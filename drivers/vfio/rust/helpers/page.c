// SPDX-License-Identifier: GPL-2.0

#include <linux/gfp.h>
#include <linux/mm.h>

/*
 * The caller can do without orders above 0: do not reclaim hard for them, and
 * do not warn if there are none.
 */
struct page *vfio_rust_alloc_pages(unsigned int order, bool zero)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT;

	if (order)
		gfp |= __GFP_NORETRY | __GFP_NOWARN;
	if (zero)
		gfp |= __GFP_ZERO;
	return alloc_pages(gfp, order);
}

/*
 * vfio_rust_alloc_pages() returns no highmem, so a run of pages is mapped as a
 * whole.
 */
void *vfio_rust_page_address(struct page *page)
{
	return page_address(page);
}
