// SPDX-License-Identifier: GPL-2.0
/*
 * The migration states of a device, and the way from each one to each other. Sentences
 * in quotation marks are from include/uapi/linux/vfio.h.
 *
 * The device loses its state.
 */
#include <unistd.h>

#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* In seconds. A state may be large. */
#define TIMEOUT		120

static const char *device_bdf;

static int feature(struct vfio_pci_device *device, u32 flags, size_t data_size)
{
	u64 data[2] = {};

	return __vfio_device_feature(device->fd, flags, data, data_size);
}

FIXTURE(vfio_migration_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
};

FIXTURE_SETUP(vfio_migration_test)
{
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_migration_device_init(device_bdf, self->iommu);

	if (!vfio_migration_flags(self->device))
		SKIP(return, "%s does not support migration", device_bdf);
}

FIXTURE_TEARDOWN(vfio_migration_test)
{
	vfio_pci_device_reset(self->device);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/*
 * "Probing a feature will return success if the feature is supported and all of the
 * optionally indicated GET/SET methods are supported."
 */
TEST_F(vfio_migration_test, probe)
{
	const u32 get = VFIO_DEVICE_FEATURE_GET, set = VFIO_DEVICE_FEATURE_SET;
	const struct {
		u32 feature;
		u32 methods;
	} features[] = {
		{ VFIO_DEVICE_FEATURE_MIGRATION, get },
		{ VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, get | set },
		{ VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, get },
	};

	for (int i = 0; i < ARRAY_SIZE(features); i++) {
		u32 flags = VFIO_DEVICE_FEATURE_PROBE | features[i].feature;
		u32 methods = features[i].methods;

		EXPECT_EQ(feature(self->device, flags, 0), 0);
		EXPECT_EQ(feature(self->device, flags | get, 0), 0);
		EXPECT_EQ(feature(self->device, flags | set, 0), methods & set ? 0 : -EINVAL);
		EXPECT_EQ(feature(self->device, flags | methods, 0), 0);
	}
}

TEST_F(vfio_migration_test, feature)
{
	const u32 get = VFIO_DEVICE_FEATURE_GET, set = VFIO_DEVICE_FEATURE_SET;
	const u32 state = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;

	/* "at least VFIO_MIGRATION_STOP_COPY must be set." */
	EXPECT_TRUE(vfio_migration_flags(self->device) & VFIO_MIGRATION_STOP_COPY);
	/* "If this GET succeeds, the RUNNING and ERROR states are always supported." */
	EXPECT_EQ(vfio_migration_get_state(self->device), VFIO_DEVICE_STATE_RUNNING);

	/* "GET and SET are mutually exclusive, except for use with PROBE." */
	EXPECT_EQ(feature(self->device, get | set | state, 8), -EINVAL);
	/* Without room for the data, and without a method. */
	EXPECT_EQ(feature(self->device, get | VFIO_DEVICE_FEATURE_MIGRATION, 4), -EINVAL);
	EXPECT_EQ(feature(self->device, get | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, 4), -EINVAL);
	EXPECT_EQ(feature(self->device, get | state, 4), -EINVAL);
	EXPECT_EQ(feature(self->device, set | state, 4), -EINVAL);
	EXPECT_EQ(feature(self->device, state, 8), -EINVAL);

	EXPECT_EQ(vfio_migration_get_state(self->device), VFIO_DEVICE_STATE_RUNNING);
}

/* The next user of a device finds it running, whatever this user has left. */
TEST_F(vfio_migration_test, reopen)
{
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP);
	vfio_pci_device_cleanup(self->device);

	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	ASSERT_EQ(vfio_migration_get_state(self->device), VFIO_DEVICE_STATE_RUNNING);
}

/* Let a driver save what there is to save, so that no reset interrupts that. */
static void drain(int data_fd)
{
	struct vfio_migration_stream stream = {};

	vfio_migration_read(data_fd, &stream, SZ_1M);
	vfio_migration_stream_free(&stream);
}

/*
 * Take a running device to a state. Return whether that is possible: invalid data are all
 * that leads to ERROR on some devices, and on others nothing does.
 */
static bool enter(struct vfio_pci_device *device, u32 state, int *data_fd)
{
	u8 garbage[SZ_4K];
	const struct vfio_migration_stream stream = { garbage, sizeof(garbage) };

	*data_fd = -1;
	if (state != VFIO_DEVICE_STATE_ERROR) {
		*data_fd = vfio_migration_set_state(device, state);
		if (vfio_migration_is_saving(state))
			drain(*data_fd);
		return true;
	}

	memset(garbage, 0xa5, sizeof(garbage));
	__vfio_migration_load(device, &stream, stream.size, SZ_4K);
	return vfio_migration_get_state(device) == VFIO_DEVICE_STATE_ERROR;
}

FIXTURE(vfio_migration_state_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	struct vfio_migration_stream stream;
	int data_fd;
};

FIXTURE_VARIANT(vfio_migration_state_test) {
	u32 state;
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, ERROR) {
	.state = VFIO_DEVICE_STATE_ERROR,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, STOP) {
	.state = VFIO_DEVICE_STATE_STOP,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, RUNNING) {
	.state = VFIO_DEVICE_STATE_RUNNING,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, STOP_COPY) {
	.state = VFIO_DEVICE_STATE_STOP_COPY,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, RESUMING) {
	.state = VFIO_DEVICE_STATE_RESUMING,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, RUNNING_P2P) {
	.state = VFIO_DEVICE_STATE_RUNNING_P2P,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, PRE_COPY) {
	.state = VFIO_DEVICE_STATE_PRE_COPY,
};

FIXTURE_VARIANT_ADD(vfio_migration_state_test, PRE_COPY_P2P) {
	.state = VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

FIXTURE_SETUP(vfio_migration_state_test)
{
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_migration_device_init(device_bdf, self->iommu);

	if (!vfio_migration_flags(self->device))
		SKIP(return, "%s does not support migration", device_bdf);
	if (!vfio_migration_has_state(self->device, variant->state))
		SKIP(return, "%s does not support %s", device_bdf,
		     vfio_migration_state_name(variant->state));

	vfio_migration_save(self->device, &self->stream);
	vfio_pci_device_reset(self->device);
	if (!enter(self->device, variant->state, &self->data_fd))
		SKIP(return, "%s: invalid data do not lead to ERROR", device_bdf);
}

FIXTURE_TEARDOWN(vfio_migration_state_test)
{
	vfio_pci_device_reset(self->device);
	if (self->data_fd >= 0)
		close(self->data_fd);
	vfio_migration_stream_free(&self->stream);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/*
 * "get the current migration state of the VFIO device, data_fd will be -1." "read back the
 * estimated data length that will be required to complete stop copy. Note: Can be called
 * on each device state."
 */
TEST_F_TIMEOUT(vfio_migration_state_test, get, TIMEOUT)
{
	struct vfio_device_feature_mig_data_size size = {};
	struct vfio_device_feature_mig_state mig = {};
	u32 flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE;

	ASSERT_EQ(__vfio_migration_get_state(self->device, &mig), 0);
	ASSERT_EQ(mig.device_state, variant->state);
	ASSERT_EQ(mig.data_fd, -1);

	ASSERT_EQ(__vfio_device_feature(self->device->fd, flags, &size, sizeof(size)), 0);
	if (variant->state == VFIO_DEVICE_STATE_STOP)
		ASSERT_GT(size.stop_copy_length, 0);
	ASSERT_EQ(vfio_migration_get_state(self->device), variant->state);
}

/* Whether one state can be reached from another one. */
static bool is_possible(struct vfio_pci_device *device, u32 from, u32 to)
{
	/*
	 * "The optional states cannot be used with SET_STATE if the device does not
	 * support them."
	 */
	if (!vfio_migration_has_state(device, to))
		return false;

	/*
	 * "ERROR cannot be specified as a device state", "To recover from ERROR
	 * VFIO_DEVICE_RESET must be used".
	 */
	if (to == VFIO_DEVICE_STATE_ERROR || from == VFIO_DEVICE_STATE_ERROR)
		return false;

	/*
	 * STOP_COPY -> PRE_COPY, STOP_COPY -> PRE_COPY_P2P: "These arcs are not permitted
	 * and return error if requested."
	 */
	return from != VFIO_DEVICE_STATE_STOP_COPY || to == from || !vfio_migration_is_saving(to);
}

/* Whether "the new_state starts a new data transfer session". */
static bool is_new_session(u32 from, u32 to)
{
	if (to == VFIO_DEVICE_STATE_RESUMING)
		return from != to;

	/*
	 * "PRE_COPY, PRE_COPY_P2P and STOP_COPY form the "saving group" of states which
	 * share a data transfer session."
	 */
	return vfio_migration_is_saving(to) && !vfio_migration_is_saving(from);
}

/*
 * "The kernel migration driver must fully transition the device to the new state value
 * before the operation returns to the user."
 */
TEST_F_TIMEOUT(vfio_migration_state_test, set, TIMEOUT)
{
	const u32 from = variant->state;
	int data_fd, ret;

	/* And the first number that is no state. */
	for (u32 to = 0; to <= VFIO_DEVICE_STATE_NR; to++) {
		bool possible = is_possible(self->device, from, to);

		if (self->data_fd >= 0)
			ASSERT_EQ(close(self->data_fd), 0);
		vfio_pci_device_reset(self->device);
		ASSERT_TRUE(enter(self->device, from, &self->data_fd));

		/* Data are needed to leave RESUMING. */
		if (from == VFIO_DEVICE_STATE_RESUMING && to != from) {
			ret = vfio_migration_write(self->data_fd, &self->stream,
						   self->stream.size, SZ_1M);
			ASSERT_EQ(ret, 0);
		}

		ret = __vfio_migration_set_state(self->device, to, &data_fd);
		EXPECT_EQ(ret, possible ? 0 : -EINVAL) {
			TH_LOG("to %s", vfio_migration_state_name(to));
		}
		EXPECT_EQ(vfio_migration_get_state(self->device), possible ? to : from) {
			TH_LOG("to %s", vfio_migration_state_name(to));
		}
		EXPECT_EQ(data_fd >= 0, possible && is_new_session(from, to)) {
			TH_LOG("to %s: data_fd is %d", vfio_migration_state_name(to), data_fd);
		}
		if (vfio_migration_is_saving(vfio_migration_get_state(self->device)))
			drain(data_fd >= 0 ? data_fd : self->data_fd);
		if (data_fd >= 0)
			ASSERT_EQ(close(data_fd), 0);
	}
}

/* "VFIO_DEVICE_RESET must be used to return the device_state back to RUNNING." */
TEST_F_TIMEOUT(vfio_migration_state_test, reset, TIMEOUT)
{
	struct vfio_migration_stream stream;
	u8 byte;

	vfio_pci_device_reset(self->device);
	ASSERT_EQ(vfio_migration_get_state(self->device), VFIO_DEVICE_STATE_RUNNING);

	/* "To abort a RESUMING session the device must be reset." */
	if (variant->state == VFIO_DEVICE_STATE_RESUMING)
		ASSERT_LT(vfio_migration_write(self->data_fd, &self->stream, 1, 1), 0);
	if (vfio_migration_is_saving(variant->state)) {
		ASSERT_EQ(read(self->data_fd, &byte, sizeof(byte)), -1);
		ASSERT_NE(errno, ENOMSG);
	}

	/* All can begin again. */
	vfio_migration_save(self->device, &stream);
	vfio_migration_load(self->device, &stream, SZ_1M);
	vfio_migration_stream_free(&stream);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	return test_harness_run(argc, argv);
}
