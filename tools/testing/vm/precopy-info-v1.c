// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded into QEMU: VFIO devices have no VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
 * as with a kernel from before it. QEMU has no option for that.
 */

#include <errno.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than many a header. */
#ifndef VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
#define VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 12
#endif

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);

	if (request == VFIO_DEVICE_FEATURE) {
		const struct vfio_device_feature *feature = arg;

		if ((feature->flags & VFIO_DEVICE_FEATURE_MASK) ==
		    VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2) {
			errno = ENOTTY;
			return -1;
		}
	}
	return syscall(SYS_ioctl, fd, request, arg);
}
