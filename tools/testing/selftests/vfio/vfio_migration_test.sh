#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Migration of a VFIO device as its user sees it: `vfio-mig test`, on one
# device, or from one to another.
#
# Devices are named as for the other tests here: as the last arguments, or else
# by VFIO_SELFTESTS_BDF.

readonly KSFT_FAIL=1
readonly KSFT_SKIP=4

is_bdf() {
	[[ $1 =~ ^[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.[0-9a-fA-F]{1,2}$ ]]
}

# As vfio_selftests_get_bdfs().
bdfs=()
for ((i = $#; i > 0; i--)); do
	is_bdf "${!i}" || break
	bdfs=("${!i}" "${bdfs[@]}")
done
if [ ${#bdfs[@]} = 0 ] && [ -n "${VFIO_SELFTESTS_BDF+set}" ]; then
	if ! is_bdf "$VFIO_SELFTESTS_BDF"; then
		echo "Invalid BDF: $VFIO_SELFTESTS_BDF" >&2
		exit $KSFT_FAIL
	fi
	bdfs=("$VFIO_SELFTESTS_BDF")
fi
if [ ${#bdfs[@]} = 0 ]; then
	echo "1..0 # SKIP Unable to determine which device(s) to use"
	exit $KSFT_SKIP
fi

mig=$(dirname "$0")/vfio-mig
[ -x "$mig" ] || mig=${VFIO_MIG_BUILT:-}
if [ ! -x "$mig" ]; then
	echo "1..0 # SKIP There is no vfio-mig: it is built with cargo, or named by VFIO_MIG="
	exit $KSFT_SKIP
fi

# It tests one device, or two.
"$mig" test "${bdfs[@]:0:2}"
status=$?
case $status in
0 | "$KSFT_SKIP") exit $status ;;
# Other statuses mean something else to kselftest, some of them no failure.
*) exit $KSFT_FAIL ;;
esac
