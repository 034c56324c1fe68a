// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>
#include <asm/sections.h>

/* Whether what is at @address is a part of @module; of the kernel if that is null. */
bool vfio_rust_within_module(const void *address, const struct module *module)
{
	if (module)
		return within_module((unsigned long)address, module);
#ifdef MODULE
	/* Nobody who uses a module is a part of the kernel. */
	return false;
#else
	return __is_kernel((unsigned long)address);
#endif
}
