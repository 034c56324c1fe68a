// SPDX-License-Identifier: GPL-2.0
/*
 * BARs as dma-bufs: VFIO_DEVICE_FEATURE_DMA_BUF exports a part of a BAR, iommufd maps
 * it for the DMA of devices, and what revokes it takes the mapping away.
 *
 * Skips if the device's driver exports none, or the kernel was built without.
 */
#include <fcntl.h>
#include <unistd.h>

#include <sys/ioctl.h>

#include <linux/iommufd.h>
#include <linux/limits.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* As many ranges as a test of this file has. */
#define MAX_RANGES	2

static const char *device_bdf;

/* The feature with its header, as the ioctl takes it. */
struct dma_buf_arg {
	struct vfio_device_feature feature;
	struct vfio_device_feature_dma_buf dma_buf;
	struct vfio_region_dma_range ranges[MAX_RANGES];
};

FIXTURE(vfio_pci_dmabuf_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	struct iova_allocator *iova_allocator;
	u64 page;
	u32 index;
	u64 size;
};

static struct dma_buf_arg arg_of(u32 index, u64 offset, u64 length)
{
	struct dma_buf_arg arg = {
		.feature.argsz = sizeof(arg),
		.feature.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
		.dma_buf.region_index = index,
		.dma_buf.open_flags = O_RDWR | O_CLOEXEC,
		.dma_buf.nr_ranges = 1,
		.ranges[0] = { .offset = offset, .length = length },
	};

	return arg;
}

/* Returns the dma-buf, or the error number less than zero. */
static int export(struct vfio_pci_device *device, struct dma_buf_arg *arg)
{
	int fd = ioctl(device->fd, VFIO_DEVICE_FEATURE, arg);

	return fd < 0 ? -errno : fd;
}

static int export_range(struct vfio_pci_device *device, u32 index, u64 offset, u64 length)
{
	struct dma_buf_arg arg = arg_of(index, offset, length);

	return export(device, &arg);
}

static int probe(struct vfio_pci_device *device, u32 method)
{
	struct vfio_device_feature arg = {
		.argsz = sizeof(arg),
		.flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_DMA_BUF | method,
	};

	return ioctl(device->fd, VFIO_DEVICE_FEATURE, &arg) ? -errno : 0;
}

/* Maps a part of a dma-buf. */
static int map(struct iommu *iommu, int fd, u64 start, u64 length, iova_t iova)
{
	struct iommu_ioas_map_file args = {
		.size = sizeof(args),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = iommu->ioas_id,
		.fd = fd,
		.start = start,
		.length = length,
		.iova = iova,
	};

	return ioctl(iommu->iommufd, IOMMU_IOAS_MAP_FILE, &args) ? -errno : 0;
}

static int unmap(struct iommu *iommu, u64 length, iova_t iova)
{
	struct iommu_ioas_unmap args = {
		.size = sizeof(args),
		.ioas_id = iommu->ioas_id,
		.iova = iova,
		.length = length,
	};

	if (ioctl(iommu->iommufd, IOMMU_IOAS_UNMAP, &args))
		return -errno;
	return args.length == length ? 0 : -ERANGE;
}

enum mapping { MAPPED, REVOKED, UNMAPPED, UNKNOWN };

/*
 * What became of a mapping. With an IOMMU, iommufd tells nobody where a page is; but it
 * refuses that with one error if the page has been revoked, and with another if not.
 */
static enum mapping mapping(struct iommu *iommu, iova_t iova)
{
	struct iommu_ioas_noiommu_get_pa args = {
		.size = sizeof(args),
		.ioas_id = iommu->ioas_id,
		.iova = iova,
		.length = 1,
	};

	if (!ioctl(iommu->iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &args))
		return MAPPED;
	switch (errno) {
	case EOPNOTSUPP:
		return MAPPED;
	case EINVAL:
		return REVOKED;
	case ENOENT:
		return UNMAPPED;
	default:
		return UNKNOWN;
	}
}

FIXTURE_SETUP(vfio_pci_dmabuf_test)
{
	int ret;

	self->page = getpagesize();
	self->iommu = iommu_init(MODE_IOMMUFD);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	self->iova_allocator = iova_allocator_init(self->iommu);

	ret = probe(self->device, VFIO_DEVICE_FEATURE_GET);
	if (ret == -EOPNOTSUPP || ret == -ENOTTY)
		SKIP(return, "%s exports no dma-bufs: %s", device_bdf, strerror(-ret));
	ASSERT_EQ(ret, 0);

	for (u32 i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct vfio_pci_bar *bar = &self->device->bars[i];

		if (bar->vaddr && bar->info.size > self->size) {
			self->index = i;
			self->size = bar->info.size;
		}
	}
	if (self->size < 4 * self->page)
		SKIP(return, "%s has no BAR of four pages", device_bdf);
}

FIXTURE_TEARDOWN(vfio_pci_dmabuf_test)
{
	iova_allocator_cleanup(self->iova_allocator);
	if (self->device)
		vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

TEST_F(vfio_pci_dmabuf_test, probe)
{
	ASSERT_EQ(probe(self->device, 0), 0);
	ASSERT_EQ(probe(self->device, VFIO_DEVICE_FEATURE_SET), -EINVAL);
}

TEST_F(vfio_pci_dmabuf_test, export_whole_bar)
{
	int fd = export_range(self->device, self->index, 0, self->size);

	ASSERT_LE(0, fd);
	ASSERT_EQ(lseek(fd, 0, SEEK_END), self->size);
	ASSERT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ASSERT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	ASSERT_EQ(close(fd), 0);
}

TEST_F(vfio_pci_dmabuf_test, export_ranges)
{
	iova_t iova = iova_allocator_alloc(self->iova_allocator, SZ_1M);
	struct dma_buf_arg arg = arg_of(self->index, 0, self->page);
	int fd;

	arg.dma_buf.nr_ranges = 2;
	arg.ranges[1] = (struct vfio_region_dma_range) {
		.offset = 3 * self->page,
		.length = self->page,
	};
	fd = export(self->device, &arg);
	ASSERT_LE(0, fd);
	ASSERT_EQ(lseek(fd, 0, SEEK_END), 2 * self->page);
	/* The physical address that iommufd takes is one. */
	ASSERT_EQ(map(self->iommu, fd, 0, self->page, iova), -EOPNOTSUPP);
	ASSERT_EQ(close(fd), 0);
}

TEST_F(vfio_pci_dmabuf_test, refuse_ranges)
{
	const u64 page = self->page, size = self->size;
	const struct {
		u64 offset;
		u64 length;
		int error;
	} bad[] = {
		{ 0, 0, -EINVAL },
		{ 0, 1, -EINVAL },
		{ 1, page, -EINVAL },
		{ 0, page + 1, -EINVAL },
		{ page / 2, page, -EINVAL },
		{ 0, size + page, -EINVAL },
		{ size, page, -EINVAL },
		{ size - page, 2 * page, -EINVAL },
		{ -page, page, -EOVERFLOW },
		{ -page, 2 * page, -EOVERFLOW },
		{ page, -page, -EINVAL },
	};
	struct dma_buf_arg arg;

	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		TH_LOG("offset %#llx, length %#llx", (long long)bad[i].offset,
		       (long long)bad[i].length);
		EXPECT_EQ(export_range(self->device, self->index, bad[i].offset,
				       bad[i].length), bad[i].error);
	}

	/* The second of two. */
	arg = arg_of(self->index, 0, page);
	arg.dma_buf.nr_ranges = 2;
	arg.ranges[1] = (struct vfio_region_dma_range) { .offset = size, .length = page };
	EXPECT_EQ(export(self->device, &arg), -EINVAL);
	/* A sum of lengths that overflows. */
	arg.ranges[1] = (struct vfio_region_dma_range) { .length = -page };
	EXPECT_EQ(export(self->device, &arg), -EINVAL);
}

TEST_F(vfio_pci_dmabuf_test, refuse_arguments)
{
	const struct dma_buf_arg good = arg_of(self->index, 0, self->page);
	struct dma_buf_arg arg;
	struct dma_buf_arg *end;
	int fd;

	arg = good;
	arg.dma_buf.flags = 1;
	EXPECT_EQ(export(self->device, &arg), -EINVAL);
	arg = good;
	arg.dma_buf.flags = 1U << 31;
	EXPECT_EQ(export(self->device, &arg), -EINVAL);
	arg = good;
	arg.dma_buf.nr_ranges = 0;
	EXPECT_EQ(export(self->device, &arg), -EINVAL);
	arg = good;
	arg.dma_buf.nr_ranges = UINT32_MAX;
	EXPECT_EQ(export(self->device, &arg), -ENOMEM);
	arg = good;
	arg.feature.argsz = sizeof(arg.feature) + sizeof(arg.dma_buf) - 1;
	EXPECT_EQ(export(self->device, &arg), -EINVAL);
	arg = good;
	arg.feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF;
	EXPECT_EQ(export(self->device, &arg), -EINVAL);

	/* Regions that are no BAR, or are not there. */
	arg = good;
	arg.dma_buf.region_index = VFIO_PCI_ROM_REGION_INDEX;
	EXPECT_EQ(export(self->device, &arg), -ENODEV);
	arg.dma_buf.region_index = VFIO_PCI_CONFIG_REGION_INDEX;
	EXPECT_EQ(export(self->device, &arg), -ENODEV);
	arg.dma_buf.region_index = UINT32_MAX;
	EXPECT_EQ(export(self->device, &arg), -ENODEV);
	for (u32 i = 0; i < PCI_STD_NUM_BARS; i++) {
		arg.dma_buf.region_index = i;
		if (!self->device->bars[i].info.size)
			EXPECT_GT(0, export(self->device, &arg));
	}

	/* An argument whose ranges are not in memory any more. */
	end = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(end, MAP_FAILED);
	ASSERT_EQ(munmap((void *)end + self->page, self->page), 0);
	end = (void *)end + self->page - offsetof(struct dma_buf_arg, ranges);
	memcpy(end, &good, offsetof(struct dma_buf_arg, ranges));
	EXPECT_EQ(export(self->device, end), -EFAULT);

	/* None of these left anything behind. */
	arg = good;
	fd = export(self->device, &arg);
	ASSERT_LE(0, fd);
	ASSERT_EQ(close(fd), 0);
}

TEST_F(vfio_pci_dmabuf_test, map)
{
	iova_t iova = iova_allocator_alloc(self->iova_allocator, self->size);
	int fd = export_range(self->device, self->index, 0, self->size);

	ASSERT_LE(0, fd);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), 0);
	ASSERT_EQ(map(self->iommu, fd, 0, self->page, iova), -EEXIST);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
	/* A part. */
	ASSERT_EQ(map(self->iommu, fd, self->page, 2 * self->page, iova), 0);
	ASSERT_EQ(unmap(self->iommu, 2 * self->page, iova), 0);
	/* More than there is. */
	ASSERT_EQ(map(self->iommu, fd, 0, self->size + self->page, iova), -EINVAL);
	ASSERT_EQ(map(self->iommu, fd, self->size, self->page, iova), -EINVAL);
	/* The mapping keeps what it needs. */
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), 0);
	ASSERT_EQ(close(fd), 0);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
}

TEST_F(vfio_pci_dmabuf_test, map_twice)
{
	iova_t iova = iova_allocator_alloc(self->iova_allocator, 2 * self->size);
	int fd = export_range(self->device, self->index, 0, self->size);

	ASSERT_LE(0, fd);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), 0);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova + self->size), 0);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
	ASSERT_EQ(unmap(self->iommu, self->size, iova + self->size), 0);
	ASSERT_EQ(close(fd), 0);
}

TEST_F(vfio_pci_dmabuf_test, reset_revokes)
{
	iova_t iova = iova_allocator_alloc(self->iova_allocator, self->size);
	int fd;

	if (!(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s cannot be reset", device_bdf);
	fd = export_range(self->device, self->index, 0, self->size);
	ASSERT_LE(0, fd);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), 0);
	if (mapping(self->iommu, iova) == UNKNOWN)
		SKIP(return, "the kernel does not tell what is revoked");
	ASSERT_EQ(mapping(self->iommu, iova), MAPPED);

	vfio_pci_device_reset(self->device);
	ASSERT_EQ(mapping(self->iommu, iova), REVOKED);
	/* For good, whatever comes. */
	vfio_pci_device_reset(self->device);
	ASSERT_EQ(mapping(self->iommu, iova), REVOKED);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
	ASSERT_EQ(mapping(self->iommu, iova), UNMAPPED);

	/* But what was exported can be mapped again, and revoked again. */
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), 0);
	ASSERT_EQ(mapping(self->iommu, iova), MAPPED);
	vfio_pci_device_reset(self->device);
	ASSERT_EQ(mapping(self->iommu, iova), REVOKED);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
	ASSERT_EQ(close(fd), 0);
}

TEST_F(vfio_pci_dmabuf_test, close_revokes)
{
	iova_t iova = iova_allocator_alloc(self->iova_allocator, self->size);
	int fd = export_range(self->device, self->index, 0, self->size);
	int again;

	ASSERT_LE(0, fd);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), 0);

	vfio_pci_device_cleanup(self->device);
	self->device = NULL;
	EXPECT_NE(mapping(self->iommu, iova), MAPPED);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), -ENODEV);

	/* It is not what the next one to open the device exports. */
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	ASSERT_EQ(map(self->iommu, fd, 0, self->size, iova), -ENODEV);
	again = export_range(self->device, self->index, 0, self->size);
	ASSERT_LE(0, again);
	ASSERT_EQ(map(self->iommu, again, 0, self->size, iova), 0);
	ASSERT_EQ(unmap(self->iommu, self->size, iova), 0);
	ASSERT_EQ(close(again), 0);
	ASSERT_EQ(close(fd), 0);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	return test_harness_run(argc, argv);
}
