/* SPDX-License-Identifier: GPL-2.0 */
/* Read by bindgen, which makes mlx5_bindings_generated.rs of it. */

#ifndef MLX5_RUST_BINDINGS_HELPER_H
#define MLX5_RUST_BINDINGS_HELPER_H

#include <linux/mlx5/cq.h>
#include <linux/mlx5/driver.h>
#include <linux/mlx5/eq.h>
#include <linux/mlx5/mlx5_ifc.h>
#include <linux/mlx5/qp.h>
#include <linux/mlx5/vf_migration_stream.h>
#include <linux/mlx5/vport.h>

#include "helpers.h"

#endif /* MLX5_RUST_BINDINGS_HELPER_H */
