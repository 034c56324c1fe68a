/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_MIGRATION_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_MIGRATION_H

#include <linux/types.h>
#include <linux/vfio.h>

#include <libvfio/vfio_pci_device.h>

/* What is read from a data_fd while saving, and written to one while resuming. */
struct vfio_migration_stream {
	u8 *data;
	size_t size;
};

/*
 * Open a device, and reset it if it can migrate: there are drivers that keep the
 * state which the last user has left.
 */
struct vfio_pci_device *vfio_migration_device_init(const char *bdf, struct iommu *iommu);

/* Return the VFIO_MIGRATION_* flags of the device, or 0 if it cannot migrate. */
u64 vfio_migration_flags(struct vfio_pci_device *device);

const char *vfio_migration_state_name(u32 state);
bool vfio_migration_has_state(struct vfio_pci_device *device, u32 state);
bool vfio_migration_is_saving(u32 state);

/* Return 0 or a negative error number. */
int __vfio_migration_get_state(struct vfio_pci_device *device,
			       struct vfio_device_feature_mig_state *mig);
u32 vfio_migration_get_state(struct vfio_pci_device *device);

/* Return 0 or a negative error number, and set *data_fd, which may be -1. */
int __vfio_migration_set_state(struct vfio_pci_device *device, u32 state, int *data_fd);
int vfio_migration_set_state(struct vfio_pci_device *device, u32 state);

/*
 * Append what can be read to @stream, with reads of @len bytes. Return 0 at the
 * end of the stream, or a negative error number (-ENOMSG at a temporary end).
 */
int vfio_migration_read(int data_fd, struct vfio_migration_stream *stream, size_t len);

/* Write the first @size bytes of @stream with writes of @len bytes at most. */
int vfio_migration_write(int data_fd, const struct vfio_migration_stream *stream,
			 size_t size, size_t len);

/* Read the whole state of the device, which is in STOP_COPY afterwards. */
void vfio_migration_save(struct vfio_pci_device *device,
			 struct vfio_migration_stream *stream);

/*
 * Enter RESUMING, write the first @size bytes of @stream with writes of @len bytes at
 * most, and leave RESUMING for STOP, even if a write fails. Return 0 or the negative
 * error number of the last step, which must fail unless a whole state was written.
 */
int __vfio_migration_load(struct vfio_pci_device *device,
			  const struct vfio_migration_stream *stream, size_t size,
			  size_t len);

/* Load a whole state into the device, which is in STOP afterwards. */
void vfio_migration_load(struct vfio_pci_device *device,
			 const struct vfio_migration_stream *stream, size_t len);

void vfio_migration_stream_free(struct vfio_migration_stream *stream);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_MIGRATION_H */
