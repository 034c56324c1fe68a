# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What operate.sh does its steps with; to be sourced. Results go to the second serial port: they
# have what an operator has typed and seen, as diagnostics of each test.

RESULTS=/dev/ttyS1
PAGES=/operator/Documentation/userspace-api/vfio-rust
OTHER=host2
# Of the guest, on the adapters' network.
GUEST=192.168.51.10
CONSOLE=/var/log/libvirt/qemu/console.log
# One connection for all commands.
SSH=(ssh -o ControlMaster=auto -o ControlPath=/run/operator-ssh -o ControlPersist=yes)
# What an operator has typed and seen in a test.
typed=/run/operator-typed
number=0
# What the last command has said.
said=
# How far the guest had counted when it was looked at.
count=0

stty -F "$RESULTS" raw -echo
report() { printf '%s\n' "$*" > "$RESULTS"; }

# step NAME FUNCTION: in this shell, so that what it finds out stays.
step() {
	local status=0
	: > "$typed"
	number=$((number + 1))
	report "@progress $1"
	"$2" || status=1
	if [ $status = 0 ]; then
		report "ok $number $1"
	else
		report "not ok $number $1"
	fi
	sed 's/^/# /' "$typed" > "$RESULTS"
}

# fail WHAT: says what is wrong.
fail() {
	echo "=> $*" >> "$typed"
	return 1
}

# variables HOST: what stands for names in the pages.
variables() {
	local destination=$OTHER
	[ "$1" = "$HOSTNAME" ] || destination=$HOSTNAME
	echo "export LC_ALL=C.UTF-8 PF=0000:01:00.0 VF=0000:01:00.2 DESTINATION=$destination"
}

# there HOST COMMAND: without a word about it.
there() {
	if [ "$1" = "$HOSTNAME" ]; then
		(cd /root && bash -c "$(variables "$1"); $2")
	else
		"${SSH[@]}" -n "$1" "$(variables "$1"); $2"
	fi 2>&1 < /dev/null
}

# on HOST COMMAND: as root types it there. The status is the command's.
on() {
	local status=0 alive
	echo "$1# $2" >> "$typed"
	while sleep 20; do report "@progress $1# $2"; done &
	alive=$!
	report "@progress $1# $2"
	said=$(there "$1" "$2") || status=$?
	kill "$alive"
	wait "$alive" 2> /dev/null
	# A line that is written over and over: what a terminal shows in the end.
	said=$(sed 's/\r*$//; s/.*\r//' <<< "$said")
	[ -z "$said" ] || printf '%s\n' "$said" >> "$typed"
	return $status
}

# stands PAGE COMMAND: whether the page has just that.
stands() {
	tr -s '[:space:]\134' ' ' < "$PAGES/$1" | grep -qF -e "$2" || fail "$1 does not say: $2"
}

# printed PAGE HOST COMMAND: carries out what the page has. The emulated adapter has no switchdev
# mode.
printed() { stands "$1" "$3" && on "$2" "${3/ --switchdev/}"; }

# refused PAGE HOST COMMAND: the same, and it must fail.
refused() {
	stands "$1" "$3" || return
	! on "$2" "$3" || fail "that went well"
}

# says TEXT: whether the last command did.
says() { [[ $said == *"$1"* ]] || fail "it did not say: $1"; }

# becomes WHAT SECONDS COMMAND...: waits until the command goes well.
becomes() {
	local what=$1 end=$((SECONDS + $2))
	shift 2
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not in time: $what" || return
		report "@progress waiting: $what"
		sleep 3
	done
}

# begins: the guest is another one than it was.
begins() { count=0; }

# counted HOST: how far the guest has counted, as its console there says.
counted() {
	there "$1" "sed -n 's/^guest: count \([0-9]*\) .*/\1/p' $CONSOLE | tail -n 1"
}
counts_on() { [ "$(counted "$1")" -gt "$count" ] 2> /dev/null; }
answers() { there "$1" "tail -n 1 $CONSOLE" | grep -q 'answers host1 host2'; }

# runs_on HOST: the guest runs there, has not begun again, and is on the network.
runs_on() {
	becomes "the guest counts on" 900 counts_on "$1" || { on "$1" "tail -n 5 $CONSOLE"; return 1; }
	becomes "both hosts answer the guest" 120 answers "$1" || return
	count=$(counted "$1")
	on "$1" "tail -n 1 $CONSOLE" && on "$1" "ping -c 1 -W 5 $GUEST"
}
