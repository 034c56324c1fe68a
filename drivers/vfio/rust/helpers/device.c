// SPDX-License-Identifier: GPL-2.0

#include <linux/device.h>

void vfio_rust_warn_ratelimited(struct device *dev, const char *what)
{
	dev_warn_ratelimited(dev, "%s\n", what);
}
