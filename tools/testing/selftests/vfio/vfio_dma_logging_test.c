// SPDX-License-Identifier: GPL-2.0
/*
 * Logging the DMA of a device: requests, and whether they are refused. Sentences in
 * quotation marks are from include/uapi/linux/vfio.h.
 *
 * No device is made to do any DMA.
 */
#include <unistd.h>

#include <sys/mman.h>

#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define LOG_IOVA	SZ_4G
#define LOG_LENGTH	SZ_1M

static const char *device_bdf;

FIXTURE(vfio_dma_logging_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
};

static int probe(struct vfio_pci_device *device, u32 flags)
{
	return __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_PROBE | flags, NULL, 0);
}

/* Sets *page_size to what the device has selected. */
static int start(struct vfio_pci_device *device, u64 *page_size,
		 const struct vfio_device_feature_dma_logging_range *ranges, u32 nr_ranges)
{
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = *page_size,
		.num_ranges = nr_ranges,
		.ranges = (uintptr_t)ranges,
	};
	u32 flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
	int ret;

	ret = __vfio_device_feature(device->fd, flags, &control, sizeof(control));
	*page_size = control.page_size;

	return ret;
}

static int start_range(struct vfio_pci_device *device, u64 iova, u64 length)
{
	const struct vfio_device_feature_dma_logging_range range = { iova, length };
	u64 page_size = SZ_4K;

	return start(device, &page_size, &range, 1);
}

static int stop(struct vfio_pci_device *device)
{
	u32 flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;

	return __vfio_device_feature(device->fd, flags, NULL, 0);
}

static int report(struct vfio_pci_device *device, u64 iova, u64 length, u64 page_size,
		  u64 *bitmap)
{
	struct vfio_device_feature_dma_logging_report report = {
		.iova = iova,
		.length = length,
		.page_size = page_size,
		.bitmap = (uintptr_t)bitmap,
	};
	u32 flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;

	return __vfio_device_feature(device->fd, flags, &report, sizeof(report));
}

FIXTURE_SETUP(vfio_dma_logging_test)
{
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_migration_device_init(device_bdf, self->iommu);

	/* "VFIO_DEVICE_FEATURE_PROBE can be used to detect if the device supports DMA logging." */
	if (probe(self->device, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START))
		SKIP(return, "%s does not support DMA logging", device_bdf);
}

FIXTURE_TEARDOWN(vfio_dma_logging_test)
{
	stop(self->device);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

TEST_F(vfio_dma_logging_test, probe)
{
	const u32 get = VFIO_DEVICE_FEATURE_GET, set = VFIO_DEVICE_FEATURE_SET;

	EXPECT_EQ(probe(self->device, set | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP), 0);
	EXPECT_EQ(probe(self->device, get | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT), 0);
	EXPECT_EQ(probe(self->device, get | VFIO_DEVICE_FEATURE_DMA_LOGGING_START), -EINVAL);
	EXPECT_EQ(probe(self->device, get | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP), -EINVAL);
	EXPECT_EQ(probe(self->device, set | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT), -EINVAL);
}

/*
 * "page_size is an input that hints what tracking granularity the device should try to
 * achieve. [...] On output the device will return the page size it selected."
 */
TEST_F(vfio_dma_logging_test, page_size)
{
	const struct vfio_device_feature_dma_logging_range range = { LOG_IOVA, SZ_1G };
	const u64 hints[] = { SZ_4K, SZ_8K, SZ_2M, SZ_1G };

	for (int i = 0; i < ARRAY_SIZE(hints); i++) {
		u64 page_size = hints[i];

		ASSERT_EQ(start(self->device, &page_size, &range, 1), 0);
		ASSERT_NE(page_size, 0);
		ASSERT_EQ(page_size & (page_size - 1), 0);
		ASSERT_EQ(stop(self->device), 0);
	}
}

/*
 * "The core kernel code guarantees to support by minimum num_ranges that fit into a single
 * kernel page."
 */
TEST_F(vfio_dma_logging_test, many_ranges)
{
	struct vfio_device_feature_dma_logging_range *ranges;
	u32 nr_ranges = getpagesize() / sizeof(*ranges);
	u64 page_size = getpagesize();

	/* These have gaps in between, so they are not one range. */
	ranges = calloc_assert(nr_ranges, sizeof(*ranges));
	for (u32 i = 0; i < nr_ranges; i++) {
		ranges[i].iova = LOG_IOVA + 2 * i * page_size;
		ranges[i].length = page_size;
	}
	ASSERT_EQ(start(self->device, &page_size, ranges, nr_ranges), 0);
	ASSERT_EQ(stop(self->device), 0);
	free(ranges);
}

TEST_F(vfio_dma_logging_test, refuse_ranges)
{
	const struct {
		struct vfio_device_feature_dma_logging_range ranges[2];
		u32 nr_ranges;
		int error;
	} bad[] = {
		{ { { LOG_IOVA, LOG_LENGTH } }, 0, -EINVAL },
		/* Not of whole pages. */
		{ { { LOG_IOVA + 1, LOG_LENGTH } }, 1, -EINVAL },
		{ { { LOG_IOVA, LOG_LENGTH + 1 } }, 1, -EINVAL },
		{ { { LOG_IOVA, SZ_2K } }, 1, -EINVAL },
		/* Beyond the last address. */
		{ { { -(u64)SZ_4K, SZ_8K } }, 1, -EOVERFLOW },
		{ { { LOG_IOVA, -(u64)SZ_4K } }, 1, -EOVERFLOW },
		/* One in the other. */
		{ { { LOG_IOVA, LOG_LENGTH }, { LOG_IOVA, LOG_LENGTH } }, 2, -EINVAL },
		{ { { LOG_IOVA, LOG_LENGTH }, { LOG_IOVA + SZ_4K, SZ_4K } }, 2, -EINVAL },
		/* The second one is bad. */
		{ { { LOG_IOVA, LOG_LENGTH }, { LOG_IOVA + SZ_4G + 1, SZ_4K } }, 2, -EINVAL },
	};
	u64 page_size = SZ_4K;

	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(start(self->device, &page_size, bad[i].ranges, bad[i].nr_ranges),
			  bad[i].error) {
			TH_LOG("entry %d", i);
		}
	}
	EXPECT_EQ(start(self->device, &page_size, NULL, 1), -EFAULT);

	/* None of these was a start. */
	ASSERT_EQ(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
	ASSERT_EQ(stop(self->device), 0);
}

/*
 * "A single call to start device DMA logging can be issued and a matching stop should
 * follow at the end. Another start is not allowed in the meantime."
 */
TEST_F(vfio_dma_logging_test, start_twice)
{
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
		ASSERT_LT(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
		ASSERT_EQ(stop(self->device), 0);
	}
}

/* "If DMA logging is not enabled, an error will be returned." */
TEST_F(vfio_dma_logging_test, report_without_start)
{
	u64 bitmap[LOG_LENGTH / SZ_4K / 64] = {};

	ASSERT_LT(report(self->device, LOG_IOVA, LOG_LENGTH, SZ_4K, bitmap), 0);
	ASSERT_EQ(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
	ASSERT_EQ(stop(self->device), 0);
	ASSERT_LT(report(self->device, LOG_IOVA, LOG_LENGTH, SZ_4K, bitmap), 0);
}

TEST_F(vfio_dma_logging_test, report)
{
	const u64 bad[] = { 0, 1, SZ_2K, SZ_4K + SZ_8K };
	const u64 pattern = 0xa5a5a5a5a5a5a5a5;
	u64 bitmap[LOG_LENGTH / SZ_4K / 64];
	int ret;

	for (int i = 0; i < ARRAY_SIZE(bitmap); i++)
		bitmap[i] = pattern;

	ASSERT_EQ(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
	ret = report(self->device, LOG_IOVA, LOG_LENGTH, SZ_4K, bitmap);
	if (ret == -EOPNOTSUPP)
		SKIP(return, "the kernel has no dirty bitmaps");
	ASSERT_EQ(ret, 0);

	/*
	 * "The LOGGING_REPORT will only set bits in the bitmap and never clear or perform any
	 * initialization of the user provided bitmap."
	 */
	for (int i = 0; i < ARRAY_SIZE(bitmap); i++)
		ASSERT_EQ(bitmap[i] & pattern, pattern);

	/* "The input page_size can be any power of two value" */
	for (u64 page_size = SZ_4K; page_size <= LOG_LENGTH; page_size *= 2) {
		ret = report(self->device, LOG_IOVA, LOG_LENGTH, page_size, bitmap);
		ASSERT_EQ(ret, 0);
	}
	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		ret = report(self->device, LOG_IOVA, LOG_LENGTH, bad[i], bitmap);
		ASSERT_EQ(ret, -EINVAL);
	}
	ret = report(self->device, -(u64)SZ_4K, SZ_8K, SZ_4K, bitmap);
	ASSERT_EQ(ret, -EOVERFLOW);

	ASSERT_EQ(stop(self->device), 0);
}

/* "this API is not connected to VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE." */
TEST_F(vfio_dma_logging_test, any_state)
{
	if (!vfio_migration_flags(self->device))
		SKIP(return, "%s does not support migration", device_bdf);

	ASSERT_EQ(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_STOP);
	ASSERT_EQ(stop(self->device), 0);
	ASSERT_EQ(start_range(self->device, LOG_IOVA, LOG_LENGTH), 0);
	vfio_migration_set_state(self->device, VFIO_DEVICE_STATE_RUNNING);
	ASSERT_EQ(stop(self->device), 0);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	return test_harness_run(argc, argv);
}
