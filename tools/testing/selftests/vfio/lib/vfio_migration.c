// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/kernel.h>
#include <linux/sizes.h>
#include <linux/types.h>
#include <linux/vfio.h>

#include "kselftest.h"
#include <libvfio.h>

/* The flags that a state needs, and its name. */
static const struct {
	const char *name;
	u64 flags;
} states[VFIO_DEVICE_STATE_NR] = {
	[VFIO_DEVICE_STATE_ERROR] = { "ERROR", 0 },
	[VFIO_DEVICE_STATE_STOP] = { "STOP", VFIO_MIGRATION_STOP_COPY },
	[VFIO_DEVICE_STATE_RUNNING] = { "RUNNING", 0 },
	[VFIO_DEVICE_STATE_STOP_COPY] = { "STOP_COPY", VFIO_MIGRATION_STOP_COPY },
	[VFIO_DEVICE_STATE_RESUMING] = { "RESUMING", VFIO_MIGRATION_STOP_COPY },
	[VFIO_DEVICE_STATE_RUNNING_P2P] = { "RUNNING_P2P", VFIO_MIGRATION_P2P },
	[VFIO_DEVICE_STATE_PRE_COPY] = { "PRE_COPY", VFIO_MIGRATION_PRE_COPY },
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = {
		"PRE_COPY_P2P", VFIO_MIGRATION_PRE_COPY | VFIO_MIGRATION_P2P
	},
};

struct vfio_pci_device *vfio_migration_device_init(const char *bdf, struct iommu *iommu)
{
	struct vfio_pci_device *device = vfio_pci_device_init(bdf, iommu);

	if (vfio_migration_flags(device))
		vfio_pci_device_reset(device);

	return device;
}

u64 vfio_migration_flags(struct vfio_pci_device *device)
{
	struct vfio_device_feature_migration mig = {};
	u32 flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;

	if (__vfio_device_feature(device->fd, flags, &mig, sizeof(mig)))
		return 0;

	return mig.flags;
}

const char *vfio_migration_state_name(u32 state)
{
	return state < ARRAY_SIZE(states) ? states[state].name : "unknown";
}

bool vfio_migration_has_state(struct vfio_pci_device *device, u32 state)
{
	if (state >= ARRAY_SIZE(states))
		return false;

	return !(states[state].flags & ~vfio_migration_flags(device));
}

bool vfio_migration_is_saving(u32 state)
{
	return state == VFIO_DEVICE_STATE_STOP_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

int __vfio_migration_get_state(struct vfio_pci_device *device,
			       struct vfio_device_feature_mig_state *mig)
{
	u32 flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;

	return __vfio_device_feature(device->fd, flags, mig, sizeof(*mig));
}

u32 vfio_migration_get_state(struct vfio_pci_device *device)
{
	struct vfio_device_feature_mig_state mig = {};

	VFIO_ASSERT_EQ(__vfio_migration_get_state(device, &mig), 0);
	return mig.device_state;
}

int __vfio_migration_set_state(struct vfio_pci_device *device, u32 state, int *data_fd)
{
	struct vfio_device_feature_mig_state mig = {
		.device_state = state,
		.data_fd = -1,
	};
	u32 flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
	int ret;

	ret = __vfio_device_feature(device->fd, flags, &mig, sizeof(mig));
	*data_fd = mig.data_fd;

	return ret;
}

int vfio_migration_set_state(struct vfio_pci_device *device, u32 state)
{
	int data_fd, ret;

	ret = __vfio_migration_set_state(device, state, &data_fd);
	VFIO_ASSERT_EQ(ret, 0, "Failed to set state %s\n", vfio_migration_state_name(state));

	return data_fd;
}

int vfio_migration_read(int data_fd, struct vfio_migration_stream *stream, size_t len)
{
	ssize_t ret;

	do {
		stream->data = realloc(stream->data, stream->size + len);
		VFIO_ASSERT_NOT_NULL(stream->data);

		ret = read(data_fd, stream->data + stream->size, len);
		if (ret < 0)
			return -errno;

		stream->size += ret;
	} while (ret);

	return 0;
}

int vfio_migration_write(int data_fd, const struct vfio_migration_stream *stream,
			 size_t size, size_t len)
{
	size_t done = 0;
	ssize_t ret;

	VFIO_ASSERT_LE(size, stream->size);

	while (done < size) {
		ret = write(data_fd, stream->data + done, min(len, size - done));
		if (ret < 0)
			return -errno;

		VFIO_ASSERT_GT(ret, 0);
		done += ret;
	}

	return 0;
}

void vfio_migration_save(struct vfio_pci_device *device,
			 struct vfio_migration_stream *stream)
{
	int data_fd = vfio_migration_set_state(device, VFIO_DEVICE_STATE_STOP_COPY);

	memset(stream, 0, sizeof(*stream));
	VFIO_ASSERT_GE(data_fd, 0);
	VFIO_ASSERT_EQ(vfio_migration_read(data_fd, stream, SZ_1M), 0);
	VFIO_ASSERT_GT(stream->size, 0);
	VFIO_ASSERT_EQ(close(data_fd), 0);
}

int __vfio_migration_load(struct vfio_pci_device *device,
			  const struct vfio_migration_stream *stream, size_t size,
			  size_t len)
{
	int data_fd, ret, none;

	data_fd = vfio_migration_set_state(device, VFIO_DEVICE_STATE_RESUMING);
	VFIO_ASSERT_GE(data_fd, 0);

	vfio_migration_write(data_fd, stream, size, len);
	ret = __vfio_migration_set_state(device, VFIO_DEVICE_STATE_STOP, &none);
	VFIO_ASSERT_EQ(close(data_fd), 0);

	return ret;
}

void vfio_migration_load(struct vfio_pci_device *device,
			 const struct vfio_migration_stream *stream, size_t len)
{
	int data_fd = vfio_migration_set_state(device, VFIO_DEVICE_STATE_RESUMING);

	VFIO_ASSERT_GE(data_fd, 0);
	VFIO_ASSERT_EQ(vfio_migration_write(data_fd, stream, stream->size, len), 0);
	vfio_migration_set_state(device, VFIO_DEVICE_STATE_STOP);
	VFIO_ASSERT_EQ(close(data_fd), 0);
}

void vfio_migration_stream_free(struct vfio_migration_stream *stream)
{
	free(stream->data);
	memset(stream, 0, sizeof(*stream));
}
