// SPDX-License-Identifier: GPL-2.0

//! Asserts that the format of the stream is that of the C header,
//! `include/linux/mlx5/vf_migration_stream.h`.
//!
//! `stream` uses no kernel types, and so none of the header's names.

use super::bindings::{
    mlx5_vf_migf_header_flags_MLX5_MIGF_HEADER_FLAGS_TAG_OPTIONAL as FLAG_OPTIONAL,
    mlx5_vf_migf_header_tag_MLX5_MIGF_HEADER_TAG_FW_DATA as TAG_FW_DATA,
    mlx5_vf_migf_header_tag_MLX5_MIGF_HEADER_TAG_STOP_COPY_SIZE as TAG_STOP_COPY_SIZE,
    mlx5_vf_migration_header,
    mlx5_vf_migration_tag_stop_copy_data,
    MLX5_VF_MIGRATION_MAX_RECORD_SIZE, //
};
use crate::stream::{
    self,
    Tag, //
};
use core::mem::offset_of;

const _: () = {
    assert!(size_of::<mlx5_vf_migration_header>() == stream::HEADER_LEN);
    assert!(offset_of!(mlx5_vf_migration_header, record_size) == stream::SIZE_AT);
    assert!(offset_of!(mlx5_vf_migration_header, flags) == stream::FLAGS_AT);
    assert!(offset_of!(mlx5_vf_migration_header, tag) == stream::TAG_AT);
    assert!(size_of::<mlx5_vf_migration_tag_stop_copy_data>() == stream::SIZE_LEN);
    assert!(FLAG_OPTIONAL == stream::FLAG_OPTIONAL);
    let mut at = 0;
    while at < Tag::ALL.len() {
        let tag = Tag::ALL[at];
        let in_header = match tag {
            Tag::FwData => TAG_FW_DATA,
            Tag::StopCopySize => TAG_STOP_COPY_SIZE,
        };
        assert!(tag.number() == in_header);
        at += 1;
    }
    // CAST: The new type is not smaller.
    assert!(MLX5_VF_MIGRATION_MAX_RECORD_SIZE as u64 == stream::MAX_RECORD);
};
