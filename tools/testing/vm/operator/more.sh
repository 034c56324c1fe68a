# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Steps of operate.sh: a pool of VFs, and QEMU without libvirt.
# shellcheck disable=SC2016 # the shell that a command is typed in expands it

# A VM whose VF is of a pool.
pooled() {
	local host
	on "$HOSTNAME" 'virsh destroy guest' && on "$HOSTNAME" 'virsh undefine guest' || return
	for host in "$HOSTNAME" "$OTHER"; do
		sed 's/enp1s0f0np0/enp1s0np0/' "$PAGES/pool.xml" | to "$host" pool.xml
		printed libvirt.rst "$host" 'virsh net-define pool.xml' &&
			printed libvirt.rst "$host" 'virsh net-start connectx' &&
			printed libvirt.rst "$host" 'virsh net-autostart connectx' || return
	done
	domain | sed -e '/<hostdev/,/<.hostdev>/d' -e "s|<console|<interface type='network'>\
<mac address='52:54:00:00:03:01'/><source network='connectx'/></interface>&|" |
		to "$HOSTNAME" domain.xml
	there "$HOSTNAME" ": > $CONSOLE"
	begins
	on "$HOSTNAME" 'virsh define domain.xml' && on "$HOSTNAME" 'virsh start guest' &&
		runs_on "$HOSTNAME" && on "$HOSTNAME" "grep address $CONSOLE" &&
		says 52:54:00:00:03:01 && printed libvirt.rst "$HOSTNAME" "$MIGRATE" &&
		runs_on "$OTHER" && on "$OTHER" 'virsh net-list' && on "$OTHER" 'virsh destroy guest'
}

# to HOST FILE: what comes from standard input.
to() {
	if [ "$1" = "$HOSTNAME" ]; then
		cat > "/root/$2"
	else
		"${SSH[@]}" "$1" "cat > $2"
	fi
}

# qemu HOST ARGUMENT...: starts one, with a monitor.
qemu() {
	local host=$1
	shift
	there "$host" 'rm -f monitor.*; mkfifo monitor.in monitor.out; : > '"$CONSOLE"'
		setsid cat monitor.out > monitor.log 2> /dev/null < /dev/null &'
	on "$host" "qemu-system-x86_64 -M q35 -accel kvm -cpu qemu64 -m 256 -mem-path /dev/hugepages \
-nodefaults -display none -kernel /var/lib/guest/vmlinuz -initrd /var/lib/guest/initrd \
-append 'console=ttyS0 quiet panic=-1 no_timer_check' -serial file:$CONSOLE \
-chardev pipe,id=monitor,path=/root/monitor -object monitor-hmp,id=hmp,chardev=monitor -daemonize $*"
}

# monitor HOST COMMAND: has its QEMU carry it out. The answer is in $said.
monitor() {
	local before
	stands operators.rst "$2" || return
	before=$(there "$1" 'wc -c < monitor.log')
	there "$1" "echo '${2/'$DESTINATION'/$OTHER}' > monitor.in; sleep 3"
	said=$(there "$1" "tail -c +$((before + 1)) monitor.log | sed 's/\x1b\[[0-9]*[A-Z]//g' |
		tr -d '\r' | sed 1d | grep -v '^(qemu)'")
	printf '%s: (qemu) %s\n%s\n' "$1" "${2/'$DESTINATION'/$OTHER}" "$said" | grep . >> "${typed:?}"
}

completed() { monitor "$HOSTNAME" 'info migrate' && [[ $said == *completed* ]]; }

alone() {
	local host capability device='-device vfio-pci,host=$VF,enable-migration=on'
	stands operators.rst "$device" || return
	for host in "$HOSTNAME" "$OTHER"; do
		# They are none of its steps, and may not be there.
		there "$host" 'virsh destroy guest; virsh net-destroy connectx' > /dev/null
		on "$host" 'vfio-mig bind $VF --driver mlx5_vfio_pci_rust'
	done
	qemu "$HOSTNAME" "$device" || return
	begins
	runs_on "$HOSTNAME" && qemu "$OTHER" "$device -incoming defer" || return
	for host in "$OTHER" "$HOSTNAME"; do
		for capability in return-path switchover-ack; do
			monitor "$host" "migrate_set_capability $capability on"
		done
	done
	monitor "$OTHER" 'migrate_incoming tcp:0:4444'
	monitor "$HOSTNAME" 'migrate -d tcp:$DESTINATION:4444'
	becomes "the migration is completed" 300 completed && says vfio= &&
		monitor "$OTHER" 'info status' && says running || return
	monitor "$HOSTNAME" quit
	runs_on "$OTHER"
}
