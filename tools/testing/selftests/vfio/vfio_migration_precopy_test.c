// SPDX-License-Identifier: GPL-2.0
/*
 * Saving a device while it is running, in PRE_COPY and PRE_COPY_P2P. Sentences in
 * quotation marks are from include/uapi/linux/vfio.h.
 *
 * Nobody uses the device meanwhile, so that its state does not change. It is lost.
 */
#include <poll.h>
#include <unistd.h>

#include <sys/ioctl.h>

#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* In seconds. A state may be large. */
#define TIMEOUT		120

/* In milliseconds, for what must come. */
#define POLL_TIMEOUT	10000

static const char *device_bdf;

FIXTURE(vfio_migration_precopy_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	struct vfio_migration_stream stream;
	int data_fd;
};

FIXTURE_VARIANT(vfio_migration_precopy_test) {
	u32 state;
};

FIXTURE_VARIANT_ADD(vfio_migration_precopy_test, PRE_COPY) {
	.state = VFIO_DEVICE_STATE_PRE_COPY,
};

FIXTURE_VARIANT_ADD(vfio_migration_precopy_test, PRE_COPY_P2P) {
	.state = VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

FIXTURE_SETUP(vfio_migration_precopy_test)
{
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_migration_device_init(device_bdf, self->iommu);

	if (!vfio_migration_flags(self->device))
		SKIP(return, "%s does not support migration", device_bdf);
	if (!vfio_migration_has_state(self->device, variant->state))
		SKIP(return, "%s does not support %s", device_bdf,
		     vfio_migration_state_name(variant->state));

	self->data_fd = vfio_migration_set_state(self->device, variant->state);
	ASSERT_GE(self->data_fd, 0);
}

FIXTURE_TEARDOWN(vfio_migration_precopy_test)
{
	/* What a reset does to a device that is being saved is not tested here. */
	vfio_migration_read(self->data_fd, &self->stream, SZ_1M);
	vfio_pci_device_reset(self->device);
	close(self->data_fd);
	vfio_migration_stream_free(&self->stream);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

static int precopy_info(int data_fd, struct vfio_precopy_info *info)
{
	return ioctl(data_fd, VFIO_MIG_GET_PRECOPY_INFO, info) ? -errno : 0;
}

static struct vfio_precopy_info precopy_info_get(int data_fd)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };

	VFIO_ASSERT_EQ(precopy_info(data_fd, &info), 0);
	return info;
}

static bool is_readable(int data_fd, int timeout)
{
	struct pollfd pollfd = { .fd = data_fd, .events = POLLIN };

	VFIO_ASSERT_GE(poll(&pollfd, 1, timeout), 0);
	return pollfd.revents & POLLIN;
}

/*
 * "This field should have a non-zero initial value and decrease as migration data is read
 * from the device."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, initial_bytes, TIMEOUT)
{
	const size_t sizes[] = { 1, 16, 4096 };
	u64 before, after;
	ssize_t ret;
	u8 data[4096];

	before = precopy_info_get(self->data_fd).initial_bytes;
	ASSERT_GT(before, 0);

	for (int i = 0; i < ARRAY_SIZE(sizes) && before; i++) {
		ret = read(self->data_fd, data, sizes[i]);
		ASSERT_GT(ret, 0);
		after = precopy_info_get(self->data_fd).initial_bytes;
		ASSERT_LE(after, before);
		ASSERT_LE(before - after, ret);
		before = after;
	}

	vfio_migration_read(self->data_fd, &self->stream, SZ_1M);
	ASSERT_EQ(precopy_info_get(self->data_fd).initial_bytes, 0);
}

/* "The dirty_bytes field [...] starts at zero" */
TEST_F_TIMEOUT(vfio_migration_precopy_test, dirty_bytes, TIMEOUT)
{
	ASSERT_EQ(precopy_info_get(self->data_fd).dirty_bytes, 0);
}

/*
 * "It returns an estimate of the current data sizes remaining to be transferred."
 * What user space has left in the fields is none.
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, info_is_output, TIMEOUT)
{
	struct vfio_precopy_info info = {
		.argsz = sizeof(info),
		.initial_bytes = UINT64_MAX,
		.dirty_bytes = UINT64_MAX,
	};

	ASSERT_EQ(precopy_info(self->data_fd, &info), 0);
	EXPECT_NE(info.initial_bytes, UINT64_MAX);
	EXPECT_NE(info.dirty_bytes, UINT64_MAX);
}

TEST_F_TIMEOUT(vfio_migration_precopy_test, info_argsz, TIMEOUT)
{
	const u32 small[] = { 0, 8, sizeof(struct vfio_precopy_info) - 1 };
	struct vfio_precopy_info info = {};

	for (int i = 0; i < ARRAY_SIZE(small); i++) {
		info.argsz = small[i];
		EXPECT_EQ(precopy_info(self->data_fd, &info), -EINVAL);
	}

	/* A larger one, as a newer kernel may have it. */
	info.argsz = SZ_4K;
	ASSERT_EQ(precopy_info(self->data_fd, &info), 0);
}

/*
 * "This ioctl is valid only in PRE_COPY states and kernel driver should return -EINVAL
 * from any other migration state."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, info_in_stop_copy, TIMEOUT)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	int data_fd;

	ASSERT_EQ(vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP_COPY), -1);
	ASSERT_EQ(precopy_info(self->data_fd, &info), -EINVAL);

	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP);
	data_fd = vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP_COPY);
	ASSERT_EQ(precopy_info(data_fd, &info), -EINVAL);
	ASSERT_EQ(vfio_migration_read(data_fd, &self->stream, SZ_1M), 0);
	ASSERT_EQ(close(data_fd), 0);
}

/*
 * "On SET, enables the v2 pre_copy_info behaviour, where the vfio_precopy_info.flags is a
 * valid output field."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, info_v2, TIMEOUT)
{
	const u32 v2 = VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2;
	struct vfio_precopy_info info = {
		.argsz = sizeof(info),
		.flags = ~0U,
	};
	int ret;

	ret = __vfio_device_feature(self->device->fd, VFIO_DEVICE_FEATURE_SET | v2, NULL, 0);
	if (ret == -ENOTTY)
		SKIP(return, "the kernel has no VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2");
	ASSERT_EQ(ret, 0);
	ret = __vfio_device_feature(self->device->fd, VFIO_DEVICE_FEATURE_GET | v2, NULL, 0);
	ASSERT_EQ(ret, -EINVAL);

	ASSERT_EQ(precopy_info(self->data_fd, &info), 0);
	ASSERT_EQ(info.flags & ~VFIO_PRECOPY_INFO_REINIT, 0);
}

/*
 * "a temporary "end of stream" that is reached when both initial_bytes and dirty_byte are
 * zero. [...] the kernel driver should return ENOMSG from read()."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, temporary_end, TIMEOUT)
{
	struct vfio_precopy_info info;
	size_t size;

	ASSERT_EQ(vfio_migration_read(self->data_fd, &self->stream, SZ_1M), -ENOMSG);
	size = self->stream.size;
	ASSERT_GT(size, 0);

	/* A driver may find that the device has changed, but then that can be read. */
	info = precopy_info_get(self->data_fd);
	ASSERT_EQ(info.initial_bytes, 0);
	ASSERT_EQ(vfio_migration_read(self->data_fd, &self->stream, SZ_1M), -ENOMSG);
	if (info.dirty_bytes)
		ASSERT_GT(self->stream.size, size);
}

/* "Userspace can wait for more data (which may never come) by using poll." */
TEST_F_TIMEOUT(vfio_migration_precopy_test, poll, TIMEOUT)
{
	if (precopy_info_get(self->data_fd).initial_bytes)
		ASSERT_TRUE(is_readable(self->data_fd, POLL_TIMEOUT));

	vfio_migration_read(self->data_fd, &self->stream, SZ_1M);
	ASSERT_FALSE(is_readable(self->data_fd, 0));

	/* "Once in STOP_COPY [...] poll always returning readable." */
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP_COPY);
	ASSERT_TRUE(is_readable(self->data_fd, POLL_TIMEOUT));
}

/* Read to the end in STOP_COPY, and load all that was read. */
static void finish(struct vfio_pci_device *device, int data_fd,
		   struct vfio_migration_stream *stream)
{
	/* "ENOMSG may not be returned in STOP_COPY." */
	VFIO_ASSERT_EQ(vfio_migration_set_state(device, VFIO_DEVICE_STATE_STOP_COPY), -1);
	VFIO_ASSERT_EQ(vfio_migration_read(data_fd, stream, SZ_1M), 0);
	VFIO_ASSERT_EQ(vfio_migration_read(data_fd, stream, 64), 0);

	vfio_pci_device_reset(device);
	vfio_migration_load(device, stream, SZ_1M);
	vfio_migration_set_state(device, VFIO_DEVICE_STATE_RUNNING);
}

/*
 * "PRE_COPY, PRE_COPY_P2P and STOP_COPY form the "saving group" of states which share a
 * data transfer session. Moving between these states alters what is streamed in session,
 * but does not terminate or otherwise affect the associated fd."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, saving_group, TIMEOUT)
{
	const u32 other = variant->state ^ VFIO_DEVICE_STATE_PRE_COPY ^
			  VFIO_DEVICE_STATE_PRE_COPY_P2P;

	vfio_migration_read(self->data_fd, &self->stream, SZ_1M);
	if (vfio_migration_has_state(self->device, other)) {
		ASSERT_EQ(vfio_migration_set_state(self->device, other), -1);
		vfio_migration_read(self->data_fd, &self->stream, SZ_1M);
		ASSERT_EQ(vfio_migration_set_state(self->device, variant->state), -1);
		vfio_migration_read(self->data_fd, &self->stream, SZ_1M);
	}
	finish(self->device, self->data_fd, &self->stream);
}

/*
 * "It is recommended to leave PRE_COPY for STOP_COPY only after this field reaches zero.
 * Leaving PRE_COPY earlier might make things slower."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, leave_early, TIMEOUT)
{
	finish(self->device, self->data_fd, &self->stream);
}

/*
 * "The PRE_COPY arc will terminate a data transfer session.", "The PRE_COPY_P2P arc will
 * terminate a data transfer session."
 */
TEST_F_TIMEOUT(vfio_migration_precopy_test, running_ends_session, TIMEOUT)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	u8 byte;

	ASSERT_EQ(vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_RUNNING), -1);
	/* Neither the end of the stream, which would be that of the state, nor more data. */
	ASSERT_EQ(read(self->data_fd, &byte, sizeof(byte)), -1);
	ASSERT_NE(errno, ENOMSG);
	ASSERT_LT(precopy_info(self->data_fd, &info), 0);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	return test_harness_run(argc, argv);
}
