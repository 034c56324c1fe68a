#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# `unsafe` belongs to the abstractions and to the mlx5 driver's command layer, and
# each block argues with a SAFETY comment why it is sound. Other drivers have none.
set -eu
cd "$(dirname "$0")/../../.."

bad=$(grep -rnw unsafe drivers samples --include='*.rs' |
	grep -vE '^drivers/vfio/(rust|pci/mlx5_rust/fw)/' |
	grep -vE ':[0-9]+: *//|unsafe_code' || true)
if [ -n "$bad" ]; then
	echo "unsafe outside of the abstractions and of fw/:"
	echo "$bad"
	exit 1
fi

# A block or impl without a SAFETY comment in the lines before it.
find drivers -name '*.rs' ! -name bindings.rs -exec awk '
	FNR == 1 { safety = 0 }
	/SAFETY:|# Safety/ { safety = FNR }
	/unsafe (impl|\{)/ && !/^ *\/\// {
		if (FNR - safety > 12) {
			print FILENAME ":" FNR ": unsafe without a SAFETY comment: " $0
			bad = 1
		}
	}
	END { exit bad }
' {} +

# An argument that stands somewhere else is not looked at again when code changes.
bad=$(grep -rniE '^ *//[^/!].*\b(as|see|like) above\b|^ *// above:' drivers samples --include='*.rs' || true)
if [ -n "$bad" ]; then
	echo "comments that refer to others:"
	echo "$bad"
	exit 1
fi
