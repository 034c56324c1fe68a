#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Says how a QEMU is started with out/mlx5-emu.so: that of this machine if it is one of the
# same series, or else that of the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

version=$(cat "$(qemu_source_dir)/VERSION")
series=${version%.*}
here=$(qemu-system-x86_64 -version 2> /dev/null |
	sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p' || true)

echo "out/mlx5-emu.so is for qemu-system-x86_64 $series."
# LD_PRELOAD splits a path with a blank, but not one from there.
scripts=$VM_DIR out=$OUT
plain "$TOP" || scripts=tools/testing/vm out=out
enter="$scripts/enter.sh "
case $here in
"$series".*)
	enter=
	echo "That of this machine is $here:"
	;;
'') echo "This machine has none, but there is $version in the sysroot:" ;;
*) echo "That of this machine is $here, but there is $version in the sysroot:" ;;
esac
plain "$TOP" || echo "In $(quoted "$TOP"), then:"
cat << END

    ${enter}env LD_PRELOAD=$out/mlx5-emu.so qemu-system-x86_64 -M q35 -m 1024 \\
        -nographic -accel tcg,thread=single -cpu max \\
        -device pcie-root-port,id=rp,pref64-reserve=128M \\
        -netdev user,id=net0 -device mlx5-emu,bus=rp,netdev=net0 \\
        -kernel $out/nic/vmlinuz -initrd $out/nic/initrd -append console=ttyS0

The kernel and the initrd, which has a shell, must be made first, by

    $scripts/enter.sh $scripts/nic-guest.sh

Documentation/dev-tools/vfio-rust/mlx5-emu-nic.rst says what to do in that guest, and has more.
END
