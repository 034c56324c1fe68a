// SPDX-License-Identifier: GPL-2.0

#include <linux/mlx5/device.h>
#include <linux/mlx5/driver.h>

#include "helpers.h"

/*
 * Images that can be loaded one after the other, and state tracking, are what
 * the interface has had since its first public firmware: do not bother with
 * anything older.
 */
bool mlx5_rust_can_migrate(struct mlx5_core_dev *mdev)
{
	return MLX5_CAP_GEN(mdev, migration) &&
	       MLX5_CAP_GEN_2(mdev, migration_multi_load) &&
	       MLX5_CAP_GEN_2(mdev, migration_tracking_state);
}

bool mlx5_rust_migrates_in_chunks(struct mlx5_core_dev *mdev)
{
	return MLX5_CAP_GEN_2(mdev, migration_in_chunks);
}

bool mlx5_rust_tells_migration_state(struct mlx5_core_dev *mdev)
{
	return MLX5_CAP_GEN_2(mdev, migration_state);
}

struct device *mlx5_rust_dma_device(struct mlx5_core_dev *mdev)
{
	return mdev->device;
}
