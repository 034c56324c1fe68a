// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/uaccess.h>

unsigned long vfio_rust_copy_page_to_user(void __user *to, struct page *page,
					  size_t offset, size_t len)
{
	return copy_to_user(to, page_address(page) + offset, len);
}

unsigned long vfio_rust_copy_page_from_user(struct page *page, size_t offset,
					    const void __user *from,
					    size_t len)
{
	return copy_from_user(page_address(page) + offset, from, len);
}
