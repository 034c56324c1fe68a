// SPDX-License-Identifier: GPL-2.0

#include <linux/gfp.h>
#include <linux/mm.h>

/*
 * The caller can do without orders above 0: do not reclaim hard for them. A
 * device may ask for any amount of memory, so this fails before it has a
 * process killed. What it has left may still be too little for others.
 */
struct page *vfio_rust_alloc_run(unsigned int order, bool zero)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;

	gfp |= order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL;
	if (zero)
		gfp |= __GFP_ZERO;
	return alloc_pages(gfp, order);
}

/*
 * vfio_rust_alloc_run() returns no highmem, so a run of pages is mapped as a
 * whole.
 */
void *vfio_rust_page_address(struct page *page)
{
	return page_address(page);
}

/* Whether the machine has as much memory, used or not. */
bool vfio_rust_memory_has(size_t len)
{
	return len >> PAGE_SHIFT <= totalram_pages();
}
