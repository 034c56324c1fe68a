// SPDX-License-Identifier: GPL-2.0
/*
 * What is read of a device while it is saved, and written while it is resumed. Sentences
 * in quotation marks are from include/uapi/linux/vfio.h.
 *
 * Takes one device, or two between which a state can be moved. They lose their state.
 */
#include <stdint.h>
#include <unistd.h>

#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* In seconds. A state may be large. */
#define TIMEOUT		120

static char **device_bdfs;
static int nr_devices;

FIXTURE(vfio_migration_data_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
};

FIXTURE_SETUP(vfio_migration_data_test)
{
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_migration_device_init(device_bdfs[0], self->iommu);

	if (!vfio_migration_flags(self->device))
		SKIP(return, "%s does not support migration", device_bdfs[0]);
}

FIXTURE_TEARDOWN(vfio_migration_data_test)
{
	vfio_pci_device_reset(self->device);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/* "STOP_COPY - The device internal state can be read out" */
TEST_F_TIMEOUT(vfio_migration_data_test, read, TIMEOUT)
{
	/* Sizes that a driver's records or pages do not have. */
	const size_t sizes[] = { 1, 3, 97, 4095, 100001 };
	struct vfio_migration_stream whole, stream = {};
	int data_fd, ret;
	u8 byte;

	vfio_migration_save(self->device, &whole);

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* Small reads of a large state take too long. */
		if (whole.size / sizes[i] > SZ_16K)
			continue;

		vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP);
		data_fd = vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP_COPY);
		ASSERT_GE(data_fd, 0);
		/* "End of stream on the FD indicates the entire device state" */
		ASSERT_EQ(vfio_migration_read(data_fd, &stream, sizes[i]), 0);
		ASSERT_EQ(stream.size, whole.size);
		/* "signaled in the usual way by read() always returning 0" */
		for (int j = 0; j < 3; j++) {
			ret = read(data_fd, &byte, sizeof(byte));
			ASSERT_EQ(ret, 0);
		}
		ASSERT_EQ(close(data_fd), 0);
		vfio_migration_stream_free(&stream);
	}

	vfio_migration_stream_free(&whole);
}

/* "The STOP_COPY arc will terminate a data transfer session." */
TEST_F_TIMEOUT(vfio_migration_data_test, stop_ends_stop_copy, TIMEOUT)
{
	int data_fd = vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP_COPY);
	u8 byte;

	ASSERT_EQ(read(data_fd, &byte, sizeof(byte)), 1);
	ASSERT_EQ(vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP), -1);
	/* Neither the end of the stream, which would be that of the state, nor more data. */
	ASSERT_EQ(read(data_fd, &byte, sizeof(byte)), -1);
	ASSERT_NE(errno, ENOMSG);
	ASSERT_EQ(close(data_fd), 0);
}

/* "Leaving RESUMING terminates a data transfer session" */
TEST_F_TIMEOUT(vfio_migration_data_test, stop_ends_resuming, TIMEOUT)
{
	struct vfio_migration_stream stream;
	int data_fd;

	vfio_migration_save(self->device, &stream);
	data_fd = vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_RESUMING);
	ASSERT_EQ(vfio_migration_write(data_fd, &stream, stream.size, SZ_1M), 0);
	ASSERT_EQ(vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP), -1);
	ASSERT_LT(vfio_migration_write(data_fd, &stream, 1, 1), 0);
	ASSERT_EQ(close(data_fd), 0);
	vfio_migration_stream_free(&stream);
}

/* A request that is refused is not the end of a session. */
TEST_F_TIMEOUT(vfio_migration_data_test, refused_in_session, TIMEOUT)
{
	struct vfio_migration_stream whole, stream = {};
	int data_fd, none;

	vfio_migration_save(self->device, &whole);
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP);
	data_fd = vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP_COPY);
	ASSERT_EQ(__vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_ERROR, &none),
		  -EINVAL);
	ASSERT_EQ(vfio_migration_read(data_fd, &stream, SZ_1M), 0);
	ASSERT_EQ(stream.size, whole.size);
	ASSERT_EQ(close(data_fd), 0);
	vfio_migration_stream_free(&stream);
	vfio_migration_stream_free(&whole);
}

/*
 * "The data stream fed into the data_fd should be taken from the data transfer output of
 * a single FD during saving from a compatible device."
 *
 * There and back. Without a second device, the first one is reset in between.
 */
TEST_F_TIMEOUT(vfio_migration_data_test, migrate, TIMEOUT)
{
	struct vfio_migration_stream first, again, there, back;
	struct vfio_pci_device *other = self->device;
	bool equal;

	if (nr_devices > 1)
		other = vfio_migration_device_init(device_bdfs[1], self->iommu);

	/* Whether a stream is a function of the state of a device. */
	vfio_migration_save(self->device, &first);
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP);
	vfio_migration_save(self->device, &again);
	equal = first.size == again.size && !memcmp(first.data, again.data, first.size);

	vfio_pci_device_reset(self->device);
	vfio_migration_load(other, &first, SZ_1M);
	vfio_migration_save(other, &there);
	vfio_pci_device_reset(other);
	vfio_migration_load(self->device, &there, SZ_1M);
	vfio_migration_save(self->device, &back);
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_RUNNING);

	if (equal) {
		ASSERT_EQ(back.size, first.size);
		ASSERT_EQ(memcmp(back.data, first.data, first.size), 0);
	}
	if (!equal || there.size != first.size ||
	    memcmp(there.data, first.data, first.size))
		SKIP(goto out, "streams of %s hold more than its state", device_bdfs[0]);

out:
	if (other != self->device)
		vfio_pci_device_cleanup(other);
	vfio_migration_stream_free(&first);
	vfio_migration_stream_free(&again);
	vfio_migration_stream_free(&there);
	vfio_migration_stream_free(&back);
}

/*
 * "The user is not required to preserve buffer segmentation when writing the data stream
 * during the RESUMING operation."
 */
TEST_F_TIMEOUT(vfio_migration_data_test, segmentation, TIMEOUT)
{
	const size_t sizes[] = { 1, 7, 97, 4096, 65537, SIZE_MAX };
	struct vfio_migration_stream stream;

	vfio_migration_save(self->device, &stream);
	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (stream.size / sizes[i] > SZ_16K)
			continue;

		vfio_migration_load(self->device, &stream, sizes[i]);
		ASSERT_EQ(vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_RUNNING), -1);
	}
	vfio_migration_stream_free(&stream);
}

/*
 * "If the user provided data is found to be incomplete, inconsistent, or otherwise
 * invalid, the migration driver must fail the SET_STATE ioctl and optionally go to the
 * ERROR state as described below." The device can be used after a reset.
 */
static void refuse(struct __test_metadata *_metadata, struct vfio_pci_device *device,
		   const struct vfio_migration_stream *stream, size_t size)
{
	u32 state;

	vfio_pci_device_reset(device);
	EXPECT_LT(__vfio_migration_load(device, stream, size, SZ_1M), 0) {
		TH_LOG("%zu bytes are taken for a state", size);
	}

	/* Never further than to where the data would have been complete. */
	state = vfio_migration_get_state(device);
	EXPECT_TRUE(state == VFIO_DEVICE_STATE_RESUMING || state == VFIO_DEVICE_STATE_STOP ||
		    state == VFIO_DEVICE_STATE_ERROR) {
		TH_LOG("%zu bytes lead to %s", size, vfio_migration_state_name(state));
	}

	vfio_pci_device_reset(device);
	ASSERT_EQ(vfio_migration_get_state(device), VFIO_DEVICE_STATE_RUNNING);
}

TEST_F_TIMEOUT(vfio_migration_data_test, resume_incomplete, TIMEOUT)
{
	struct vfio_migration_stream stream;

	vfio_migration_save(self->device, &stream);
	refuse(_metadata, self->device, &stream, 1);
	refuse(_metadata, self->device, &stream, stream.size / 2);
	refuse(_metadata, self->device, &stream, stream.size - 1);
	/* It was not because of the data. */
	vfio_migration_load(self->device, &stream, SZ_1M);
	vfio_migration_stream_free(&stream);
}

TEST_F_TIMEOUT(vfio_migration_data_test, resume_garbage, TIMEOUT)
{
	struct vfio_migration_stream stream, garbage;

	vfio_migration_save(self->device, &stream);
	garbage.size = stream.size;
	garbage.data = malloc_assert(garbage.size);
	memset(garbage.data, 0xa5, garbage.size);
	refuse(_metadata, self->device, &garbage, garbage.size);
	refuse(_metadata, self->device, &garbage, garbage.size / 2);
	vfio_migration_load(self->device, &stream, SZ_1M);
	vfio_migration_stream_free(&garbage);
	vfio_migration_stream_free(&stream);
}

TEST_F_TIMEOUT(vfio_migration_data_test, resume_inconsistent, TIMEOUT)
{
	struct vfio_migration_stream stream, mixed;
	size_t half;

	/* Half a state, and then a whole one. */
	vfio_migration_save(self->device, &stream);
	half = stream.size / 2;
	mixed.size = half + stream.size;
	mixed.data = malloc_assert(mixed.size);
	memcpy(mixed.data, stream.data, half);
	memcpy(mixed.data + half, stream.data, stream.size);
	refuse(_metadata, self->device, &mixed, mixed.size);
	vfio_migration_load(self->device, &stream, SZ_1M);
	vfio_migration_stream_free(&mixed);
	vfio_migration_stream_free(&stream);
}

int main(int argc, char *argv[])
{
	device_bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_devices);
	return test_harness_run(argc, argv);
}
