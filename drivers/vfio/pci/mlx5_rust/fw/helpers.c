// SPDX-License-Identifier: GPL-2.0

#include <linux/mlx5/cq.h>
#include <linux/mlx5/device.h>
#include <linux/mlx5/driver.h>
#include <linux/mlx5/qp.h>

#include "helpers.h"

/*
 * Since the first public firmware with this interface, several images can be
 * loaded one after the other, and the state is tracked. Anything older is not
 * supported.
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

bool mlx5_rust_tracks_pages(struct mlx5_core_dev *mdev)
{
	return MLX5_CAP_GEN(mdev, adv_virtualization);
}

void mlx5_rust_track_limits_of(struct mlx5_core_dev *mdev,
			       struct mlx5_rust_track_limits *limits)
{
	limits->log_min_msg_size =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_log_min_msg_size);
	limits->log_max_msg_size =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_log_max_msg_size);
	limits->log_min_page_size =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_log_min_page_size);
	limits->log_max_page_size =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_log_max_page_size);
	limits->log_min_addr_space =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_log_min_addr_space);
	limits->log_max_addr_space =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_log_max_addr_space);
	limits->max_num_range =
		MLX5_CAP_ADV_VIRTUALIZATION(mdev, pg_track_max_num_range);
}

u32 mlx5_rust_qp_timestamp_format(struct mlx5_core_dev *mdev)
{
	return mlx5_get_qp_default_ts(mdev);
}

u32 mlx5_rust_qp_user_index(struct mlx5_core_dev *mdev)
{
	return MLX5_CAP_GEN(mdev, cqe_version) == 1 ? 0xffffff : 0;
}

u32 mlx5_rust_log_max_msg(struct mlx5_core_dev *mdev)
{
	return MLX5_CAP_GEN(mdev, log_max_msg);
}

void mlx5_rust_cq_arm(struct mlx5_core_cq *cq, struct mlx5_uars_page *uar,
		      u32 index)
{
	mlx5_cq_arm(cq, MLX5_CQ_DB_REQ_NOT, uar->map, index);
}

u32 mlx5_rust_eqe_qpn(struct mlx5_eqe *eqe)
{
	if (eqe->data.qp_srq.type != MLX5_EVENT_QUEUE_TYPE_QP)
		return ~0;
	return be32_to_cpu(eqe->data.qp_srq.qp_srq_n) & 0xffffff;
}

u32 mlx5_rust_eqe_object(struct mlx5_eqe *eqe)
{
	return be32_to_cpu(eqe->data.obj_change.obj_id);
}

bool mlx5_rust_vf_is_enabled(struct mlx5_core_dev *mdev, int vf)
{
	return READ_ONCE(mdev->priv.sriov.vfs_ctx[vf].enabled);
}

struct device *mlx5_rust_dma_device(struct mlx5_core_dev *mdev)
{
	return mdev->device;
}
