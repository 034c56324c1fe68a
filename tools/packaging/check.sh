#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs the packages of out/deb in a small Debian, with a stock kernel and its headers, has
# DKMS build the driver, upgrades them and removes them. For a test machine, what modprobe needs
# to load what DKMS has built is put to build/packages in the cache, and to
# build/packages-firmware a firmware with the key that DKMS has signed it with. Runs in the
# sysroot.
#
# Tests are numbered as in TAP. What commands have said is in out/log/packages.log.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/../testing/vm/common.sh"
# shellcheck source=tools/testing/vm/packages.sh
. "$VM_DIR/packages.sh"
# shellcheck source=tools/packaging/in-debian.sh
. "$(dirname "$0")/in-debian.sh"
always_as_root "$0" "$@"
alone check-packages tools/packaging/check.sh

NAME=mlx5-vfio-pci-rust
MODULES=(vfio_rust mlx5_vfio_pci_rust)
export VM_ROOT=$CACHE/build/installed
log=$OUT/log/packages.log
work=$CACHE/build/check-packages
rm -rf "$VM_ROOT" "$work"
mkdir -p "$work"
cp -a "$(debian_dir)" "$VM_ROOT"
: > "$log"

number=0
failed=0
# ok NAME COMMAND...: a test.
ok() {
	local name=$1 from status
	shift
	number=$((number + 1))
	from=$(wc -l < "$log")
	echo "# $name" >> "$log"
	# As a condition, it would not end with a command that fails.
	set +e
	(set -e; "$@") >> "$log" 2>&1
	status=$?
	set -e
	if [ $status = 0 ]; then
		echo "ok $number - $name"
		return
	fi
	echo "not ok $number - $name"
	tail -n "+$((from + 1))" "$log" | tail -n 30 | sed 's/^/# /'
	failed=$((failed + 1))
}
# said TEXT: whether the log has it.
said() { grep -F -e "$1" "$log" > /dev/null; }
version() { dpkg-deb -f "$1" Version; }
# files: all of them but those that change in any case, and what packages manage themselves: DKMS
# keeps the key that it signs with.
files() {
	(cd "$VM_ROOT" && find . -xdev -not -path './tmp*' -not -path './var/log/*' \
		-not -path './var/lib/dpkg/*' -not -path './var/lib/apt/*' -not -path './var/cache/apt/*' \
		-not -path './var/cache/debconf/*' -not -path './var/lib/dkms/mok.*' \
		-not -path './var/lib/dkms' -not -path './lib/modules/*/modules.*' \
		-not -path './usr/lib/modules/*/modules.*' -not -path './var/cache/man/*' \
		-not -path './var/cache/ldconfig/*' -not -path './run/*' -not -path './proc*' \
		-not -path './dev*' | LC_ALL=C sort)
}

dkms=$(echo "$OUT"/deb/$NAME-dkms_*.deb)
first=$(version "$dkms")
next=$first.1
# Not for the Debian of the test.
newer() { locked deb env -u VM_ROOT "$TOP/tools/packaging/deb.sh" "$work/next" "$next"; }
ok "packages of a later version are made" newer

# The same as what the packages are, with what a host has anyway.
needs() {
	apt satisfy "$(dpkg-deb -f "$dkms" Depends)"
	apt install systemd udev
}
kernel() {
	local own
	# Those of the suite's own kernel, too, for which the driver cannot be built.
	own=$(run apt-cache depends linux-headers-amd64 |
		sed -nE 's/^ *Depends: (linux-headers-.*)/\1/p')
	apt install "linux-headers-$STOCK_RELEASE" "linux-modules-$STOCK_RELEASE" "$own"
}
ok "what the driver's package depends on can be installed" needs
ok "a kernel and headers of two" kernel
files > "$work/before"

old_kernel() {
	said "cannot be built for Linux 6." && said "it is older than 7.2" &&
		said "it was built without CONFIG_RUST"
}
built() {
	local module file
	for module in "${MODULES[@]}"; do
		file=$(run modinfo -k "$STOCK_RELEASE" -F filename "$module")
		[[ $file == */updates/dkms/$module.ko* ]] || return 1
	done
	[ "$(run modinfo -k "$STOCK_RELEASE" -F depends mlx5_vfio_pci_rust | tr , '\n' | sort | xargs)" = \
		"mlx5_core vfio vfio-pci-core vfio_rust" ]
}
# status VERSION: DKMS has that, and no other.
status() {
	[ "$(run dkms status "$NAME")" = "$NAME/$1, $STOCK_RELEASE, x86_64: installed" ]
}
signed() {
	local module
	for module in "${MODULES[@]}"; do
		[ "$(run modinfo -k "$STOCK_RELEASE" -F signer "$module")" = "DKMS module signing key" ]
	done
}
# For what is in the packages, and not in the log.
tool() {
	[[ $(run vfio-mig --version) == vfio-mig\ * ]]
	run test -x /usr/sbin/vfio-mig -a -s /usr/share/man/man8/vfio-mig.8.gz
	run test -s /usr/share/bash-completion/completions/vfio-mig
	run test -s /usr/share/zsh/vendor-completions/_vfio-mig
	run test -s /usr/share/fish/vendor_completions.d/vfio-mig.fish
}
# As the pages show them, and enabled nowhere.
examples() {
	local name
	for name in vfio-mig@.service 70-vfio-mig.rules; do
		cmp "$VM_ROOT/usr/share/doc/vfio-mig/examples/$name" \
			"$TOP/Documentation/userspace-api/vfio-rust/$name"
		[ -z "$(find "$VM_ROOT/etc" "$VM_ROOT/usr/lib" -name "$name")" ]
	done
}
# at_boot: systemd and udev take the examples, and the programs that the unit runs are there.
at_boot() {
	local from=/usr/share/doc/vfio-mig/examples
	run systemd-analyze verify $from/vfio-mig@.service
	run udevadm verify $from/70-vfio-mig.rules
}
pages() {
	local page
	while read -r page; do
		[ -s "$VM_ROOT/usr/share/doc/$NAME-doc/${page#./}" ] || { echo "no $page"; return 1; }
	done < <(cd "$TOP/Documentation" && find . -name '*.rst')
}
ok "the packages install: DKMS builds the driver" \
	logged dpkg -i "$OUT"/deb/*.deb
ok "a kernel that it cannot be built for is named, with the reason" old_kernel
ok "depmod finds the modules, with what they stand on" built
ok "DKMS has built $first" status "$first"
ok "DKMS has signed the modules" signed
ok "vfio-mig has its manual page in section 8, and completions for three shells" tool
ok "what makes VFs at boot is there as examples, and not enabled" examples
ok "systemd and udev take those examples" at_boot
ok "all pages of the documentation are there" pages

crates=$VM_ROOT/var/cache/$NAME/$STOCK_RELEASE/build/rust/libkernel.rmeta
made=$(stat -c %y "$crates" || true)
kept() { [ -n "$made" ] && [ "$(stat -c %y "$crates")" = "$made" ]; }
ok "they are upgraded to $next" logged dpkg -i "$work"/next/*.deb
ok "DKMS has built $next, and has nothing else" status "$next"
ok "the source of $first is gone" test ! -e "$VM_ROOT/usr/src/$NAME-$first"
ok "the crates of the kernel were kept" kept

# What a machine needs: modprobe with its libraries, and modules with an index of them.
for_machine() {
	local to=$CACHE/build/packages tree=usr/lib/modules/$STOCK_RELEASE file
	rm -rf "$to"
	mkdir -p "$to/lib/modules/$STOCK_RELEASE"
	add_program "$to" '' "$(command -v modprobe)"
	run bash -c 'modprobe -S "$1" --show-depends mlx5_vfio_pci_rust
		modprobe -S "$1" --show-depends vfio_iommu_type1' - "$STOCK_RELEASE" |
		sed -nE 's/^insmod ([^ ]+).*/\1/p' | sort -u > "$work/modules"
	while read -r file; do
		(cd "$VM_ROOT/${tree%/*}" && cp --parents "${file#*/lib/modules/}" "$to/lib/modules/")
	done < "$work/modules"
	cp "$VM_ROOT/$tree"/modules.{order,builtin,builtin.modinfo} "$to/lib/modules/$STOCK_RELEASE/"
	depmod -b "$to" "$STOCK_RELEASE"
	signatures "$to" "$VM_ROOT/$tree"
}
# signatures FILES TREE: the same modules, signed by a key of nobody's, and not signed.
signatures() {
	local kind module file sign=/usr/src/linux-headers-$STOCK_RELEASE/scripts/sign-file
	openssl req -new -x509 -nodes -days 2 -subj "/CN=somebody" -newkey rsa:2048 \
		-keyout "$work/key" -out "$work/certificate"
	for kind in foreign unsigned; do
		mkdir -p "$1/$kind/lib/modules/$STOCK_RELEASE/updates/dkms"
		for module in "${MODULES[@]}"; do
			file=$1/$kind/lib/modules/$STOCK_RELEASE/updates/dkms/$module.ko
			xz -dc "$2/updates/dkms/$module.ko.xz" > "$file"
			# A signature is behind the file that strip writes.
			strip -g "$file"
			[ $kind = unsigned ] ||
				run "$sign" sha256 "$work/key" "$work/certificate" "$file"
		done
		cp "$2"/modules.{order,builtin,builtin.modinfo} "$1/$kind/lib/modules/$STOCK_RELEASE/"
		depmod -b "$1/$kind" "$STOCK_RELEASE"
	done
}
ok "files for a test machine" for_machine

left() { diff "$work/before" "$work/after"; }
ok "they are removed" logged dpkg --purge $NAME-dkms vfio-mig $NAME-doc
files > "$work/after"
ok "nothing of them is left" left
gone() { [ -z "$(run dkms status "$NAME")" ]; }
ok "DKMS has nothing of them" gone

# A firmware for that machine, which has the key that DKMS has signed with.
firmware() {
	local to=$CACHE/build/packages-firmware
	# shellcheck disable=SC2086 # several packages
	apt install $FIRMWARE_PACKAGES
	rm -rf "$to"
	mkdir -p "$to"
	cp "$VM_ROOT/usr/share/OVMF/OVMF_CODE_4M.fd" "$to/firmware.fd"
	openssl x509 -inform DER -in "$VM_ROOT/var/lib/dkms/mok.pub" -out "$to/key.pem"
	# Any GUID: it says who owns the key.
	run virt-fw-vars -i /usr/share/OVMF/OVMF_VARS_4M.fd -o "$to/variables.fd" \
		--add-db 6e2a1c55-7f4b-4a77-9e6c-2d3f1b7a5c10 "$to/key.pem"
}
ok "a firmware with the key" firmware

# The checkout's own way to install, for the kernel that scripts have prepared.
by_make() {
	local objects
	objects=$(stock_dir)/objects
	make -C "$TOP" modules modules_install "KDIR=$objects" "INSTALL_MOD_PATH=$work/tree" \
		CONFIG_SAMPLE_VFIO_RUST=n "LOCALVERSION=$STOCK_LOCALVERSION"
	make -C "$TOP" install "DESTDIR=$work/tree"
	"$work/tree/usr/local/sbin/vfio-mig" --version
	test -s "$work/tree/usr/local/share/man/man8/vfio-mig.8"
	# Kbuild compresses them if the kernel's are compressed.
	ls "$work/tree/lib/modules/$STOCK_RELEASE/updates/drivers/vfio/rust/vfio_rust.ko"* \
		"$work/tree/lib/modules/$STOCK_RELEASE/updates/drivers/vfio/pci/mlx5_rust/mlx5_vfio_pci_rust.ko"*
}
ok "make modules_install and make install put them below a folder" by_make
rm -rf "$VM_ROOT" "$work"
echo "1..$number"
[ "$failed" = 0 ] || die "$failed of $number tests have failed; $log has what commands have said"
