// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>
#include <asm/sections.h>

/* Returns whether @address is in @module, or in the kernel if @module is null. */
bool vfio_rust_within_module(const void *address, const struct module *module)
{
	if (module)
		return within_module((unsigned long)address, module);
#ifdef MODULE
	/* Callers are modules, since this is one: none is in the kernel. */
	return false;
#else
	return __is_kernel((unsigned long)address);
#endif
}
