#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes packages of this checkout and of out/vfio-mig, to out/deb, or another folder:
#
#   deb.sh [FOLDER [VERSION]]
#
# The version is that of vfio-mig with the time and the digest of the commit, so that a later one
# is an upgrade. Their maintainer is the commit's author.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/../testing/vm/common.sh"
always_as_root "$0" "$@"

NAME=mlx5-vfio-pci-rust
to=$(realpath -m "${1:-$OUT/deb}")

# commit FORMAT: about what is checked out; nothing without git, or a repository.
commit() { git -c "safe.directory=$TOP" -C "$TOP" log -1 "--format=$1" 2> /dev/null || true; }
base=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$TOP/tools/vfio-mig/Cargo.toml")
time=$(TZ=UTC git -c "safe.directory=$TOP" -C "$TOP" log -1 --date=format-local:%Y%m%d.%H%M%S \
	--format=%cd 2> /dev/null || true)
version=${2:-$base${time:+"+git$time.$(commit %h)"}}
who=$(commit '%an <%ae>')
who=${who:-nobody <nobody@localhost>}
seconds=$(commit %ct)
export SOURCE_DATE_EPOCH=${seconds:-$(date +%s)}

# What makes them is installed once.
root=$(deb_dir)
if [ ! -e "$root" ]; then
	rm -rf "$root.tmp"
	cp -a "$(debian_dir)" "$root.tmp"
	# shellcheck disable=SC2086 # several packages
	VM_ROOT=$root.tmp "$VM_DIR/enter.sh" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $DEB_PACKAGES
	mv "$root.tmp" "$root"
fi

work=$CACHE/build/deb
source=$work/$NAME-$version
rm -rf "$work"
mkdir -p "$source/tools" "$source/out"
# What is in the checkout, and not what kbuild may have left there.
(
	cd "$TOP"
	find Kbuild README.md Documentation LICENSES drivers include tools/packaging -type f \
		! -name '*.o' ! -name '*.ko' ! -name '*.cmd' ! -name '*.mod' ! -name '*.mod.c' \
		! -name '*.rmeta' ! -name '*_generated.*' ! -name kernel_names.txt \
		! -name modules.order ! -name Module.symvers -print0 |
		xargs -0 cp --parents -t "$source"
	cp "$OUT/vfio-mig" "$source/out/"
)
cp -r "$source/tools/packaging/debian" "$source/"
# Any name, also one that is a pattern.
control=$(cat "$source/debian/control")
echo "${control/@MAINTAINER@/"$who"}" > "$source/debian/control"
cat > "$source/debian/changelog" << END
$NAME ($version) UNRELEASED; urgency=medium

  * Made from ${seconds:+commit $(commit %H) of }the source.

 -- $who  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
# shellcheck disable=SC2016 # expanded by the inner shell
VM_ROOT=$root "$VM_DIR/enter.sh" env "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" \
	bash -c 'cd "$1" && dpkg-buildpackage -b -us -uc' - "$source"
# Nothing else that may be in that folder.
mkdir -p "$to"
rm -f "$to"/{"$NAME-dkms","$NAME-doc",vfio-mig}_*.deb
mv "$work"/*.deb "$to/"
rm -rf "$work"
ls "$to"/*.deb
