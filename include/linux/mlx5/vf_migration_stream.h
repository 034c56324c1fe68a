/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Migration stream of an mlx5 VF: what is read from the data fd of STOP_COPY
 * and PRE_COPY, and written to that of RESUMING. The drivers in C and in Rust
 * both use this format, so a stream of either can be written to the other.
 */

#ifndef __MLX5_VF_MIGRATION_STREAM_H__
#define __MLX5_VF_MIGRATION_STREAM_H__

#include <linux/types.h>

/**
 * enum mlx5_vf_migf_header_flags - Flags of a record
 * @MLX5_MIGF_HEADER_FLAGS_TAG_MANDATORY: No flag: a destination that does not
 *	know the tag must refuse the stream (EOPNOTSUPP).
 * @MLX5_MIGF_HEADER_FLAGS_TAG_OPTIONAL: A destination that does not know the
 *	tag must skip the record.
 *
 * Destinations ignore all other bits, so a new flag must not change what a
 * record with a known tag means.
 */
enum mlx5_vf_migf_header_flags {
	MLX5_MIGF_HEADER_FLAGS_TAG_MANDATORY = 0,
	MLX5_MIGF_HEADER_FLAGS_TAG_OPTIONAL = 1 << 0,
};

/**
 * enum mlx5_vf_migf_header_tag - Kind of the data in a record
 * @MLX5_MIGF_HEADER_TAG_FW_DATA: An image that SAVE_VHCA_STATE wrote, whole,
 *	for LOAD_VHCA_STATE. Images are loaded in the order of the stream: first
 *	those of PRE_COPY, then those of STOP_COPY. Mandatory.
 * @MLX5_MIGF_HEADER_TAG_STOP_COPY_SIZE: A struct
 *	mlx5_vf_migration_tag_stop_copy_data. Optional; the first record of a
 *	stream, if any.
 */
enum mlx5_vf_migf_header_tag {
	MLX5_MIGF_HEADER_TAG_FW_DATA = 0,
	MLX5_MIGF_HEADER_TAG_STOP_COPY_SIZE = 1 << 0,
};

/**
 * struct mlx5_vf_migration_header - Header of a record, with its data
 * @record_size: Bytes of @data, at most MLX5_VF_MIGRATION_MAX_RECORD_SIZE.
 * @flags: Bits of enum mlx5_vf_migf_header_flags.
 * @tag: A value of enum mlx5_vf_migf_header_tag.
 * @data: Data of the kind that @tag names.
 *
 * A stream is a sequence of records with nothing between them, so a header can
 * be at any offset. A stream ends at the end of a record, and has at least one
 * image.
 */
struct mlx5_vf_migration_header {
	__le64 record_size;
	__le32 flags;
	__le32 tag;
	__u8 data[];
};

/**
 * struct mlx5_vf_migration_tag_stop_copy_data - Data of a STOP_COPY_SIZE record
 * @stop_copy_size: Bytes of the image of STOP_COPY, as estimated when the
 *	stream began. A destination may prepare memory for them.
 *
 * The data of such a record may be longer, but not shorter. A destination
 * ignores the data after @stop_copy_size.
 */
struct mlx5_vf_migration_tag_stop_copy_data {
	__le64 stop_copy_size;
};

/* LOAD_VHCA_STATE has a 32 bit field for the size of an image. */
#define MLX5_VF_MIGRATION_MAX_RECORD_SIZE 0xffffffffU

#endif /* __MLX5_VF_MIGRATION_STREAM_H__ */
