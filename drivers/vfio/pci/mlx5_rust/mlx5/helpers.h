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
struct device *mlx5_rust_dma_device(struct mlx5_core_dev *mdev);

#endif /* MLX5_RUST_HELPERS_H */
