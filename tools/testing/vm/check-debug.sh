#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Looks at the kernel of debug.sh. What is ours must not warn. A callback of ours must have the
# type that a C driver's has: the kernel compares types where it calls (CONFIG_CFI), and no test
# has it call all of them. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

# What C drivers and vfio-pci give to VFIO, the PCI core and mlx5_core, by object.
MLX5_MAIN="mlx5vf_pci_probe mlx5vf_pci_remove mlx5vf_pci_aer_reset_done mlx5vf_pci_init_dev
	mlx5vf_pci_release_dev mlx5vf_pci_open_device mlx5vf_pci_close_device
	mlx5vf_pci_set_device_state mlx5vf_pci_get_device_state mlx5vf_pci_get_data_size
	mlx5vf_save_read mlx5vf_save_poll mlx5vf_precopy_ioctl mlx5vf_resume_write
	mlx5vf_release_file"
MLX5_CMD="mlx5fv_vf_event mlx5vf_save_callback mlx5vf_start_page_tracker
	mlx5vf_stop_page_tracker mlx5vf_tracker_read_and_clear mlx5vf_event_notifier
	mlx5vf_cq_complete mlx5vf_cq_event"
CORE="vfio_pci_core_read vfio_pci_core_write vfio_pci_core_mmap vfio_pci_core_ioctl
	vfio_pci_core_match_token_uuid vfio_pci_ioctl_get_region_info"
DMABUF="vfio_pci_core_get_dmabuf_phys"

# types OBJECT...: the type of each function that may be called by a pointer, and its name.
types() {
	llvm-objdump -d --no-show-raw-insn "$@" | awk '
		/^[0-9a-f]+ <__cfi_.*>:$/ { name = substr($2, 8, length($2) - 9); next }
		name && match($0, /mov.*\$[^,]+/) {
			print substr($0, RSTART, RLENGTH), name
			name = ""
		}' | sed -E 's/^mov[a-z]*[[:space:]]+\$//'
}

"$VM_DIR/check-warnings.sh" debug kunit-debug
cd "$(debug_dir)/objects"
mapfile -t folders < <(our_folders)
mapfile -t objects < <(find "${folders[@]}" -name '*.o')
ours=$(types "${objects[@]}" | cut -d ' ' -f 1 | sort -u)

# check OBJECT NAME...: a function of ours has the type that each of them has.
check() {
	local object=$1 name type
	shift
	for name; do
		type=$(types "$object" | awk -v name="$name" '$2 == name { print $1 }')
		[ -n "$type" ] || die "$object has no $name that may be called by a pointer"
		grep -qxF -- "$type" <<< "$ours" || die "nothing of ours has the type of $name"
	done
}

# shellcheck disable=SC2086 # lists of words
{
	check drivers/vfio/pci/mlx5/main.o $MLX5_MAIN
	check drivers/vfio/pci/mlx5/cmd.o $MLX5_CMD
	check drivers/vfio/pci/vfio_pci_core.o $CORE
	check drivers/vfio/pci/vfio_pci_dmabuf.o $DMABUF
}
