/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C side of the mlx5 command layer: access to struct mlx5_core_dev, which is
 * opaque to Rust, and to macros. bindgen reads this file, too.
 */

#ifndef MLX5_RUST_HELPERS_H
#define MLX5_RUST_HELPERS_H

#include <linux/types.h>

struct device;
struct mlx5_core_dev;

bool mlx5_rust_can_migrate(struct mlx5_core_dev *mdev);
bool mlx5_rust_migrates_in_chunks(struct mlx5_core_dev *mdev);
bool mlx5_rust_tells_migration_state(struct mlx5_core_dev *mdev);
bool mlx5_rust_tracks_pages(struct mlx5_core_dev *mdev);
struct device *mlx5_rust_dma_device(struct mlx5_core_dev *mdev);
/* Whether the PF has enabled its VF number @vf, counted from 0. */
bool mlx5_rust_vf_is_enabled(struct mlx5_core_dev *mdev, int vf);

/* Values of pg_track_* in MLX5_CAP_ADV_VIRTUALIZATION. */
struct mlx5_rust_track_limits {
	u8 log_min_msg_size;
	u8 log_max_msg_size;
	u8 log_min_page_size;
	u8 log_max_page_size;
	u8 log_min_addr_space;
	u8 log_max_addr_space;
	u8 max_num_range;
};

void mlx5_rust_track_limits_of(struct mlx5_core_dev *mdev,
			       struct mlx5_rust_track_limits *limits);
u32 mlx5_rust_qp_timestamp_format(struct mlx5_core_dev *mdev);
u32 mlx5_rust_qp_user_index(struct mlx5_core_dev *mdev);
u32 mlx5_rust_log_max_msg(struct mlx5_core_dev *mdev);

struct mlx5_core_cq;
struct mlx5_eqe;
struct mlx5_uars_page;

void mlx5_rust_cq_arm(struct mlx5_core_cq *cq, struct mlx5_uars_page *uar,
		      u32 index);
/* The QP that an event is about, or ~0 if it is about no QP. */
u32 mlx5_rust_eqe_qpn(struct mlx5_eqe *eqe);
u32 mlx5_rust_eqe_object(struct mlx5_eqe *eqe);

#endif /* MLX5_RUST_HELPERS_H */
