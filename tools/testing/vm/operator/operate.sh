#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Does what the pages tell an operator, from the driver that a package has installed to a VM that
# libvirt migrates between two hosts and back. Runs on the first one, host1.
# shellcheck disable=SC2016 # the shell that a command is typed in expands it
cd "$(dirname "$0")" || exit 1
# shellcheck source=tools/testing/vm/operator/lib.sh
. ./lib.sh

loaded() {
	local host
	for host in "$HOSTNAME" "$OTHER"; do
		printed installing.rst "$host" 'modprobe mlx5_vfio_pci_rust' &&
			printed installing.rst "$host" 'lsmod | grep mlx5_vfio_pci_rust' || return
	done
	on "$HOSTNAME" 'modinfo -F filename mlx5_vfio_pci_rust' && says /updates/dkms/
}

lacking() {
	refused operators.rst "$HOSTNAME" 'vfio-mig doctor $PF' &&
		says 'boot a kernel with CONFIG_IOMMUFD_DRIVER'
}

vfs() {
	printed operators.rst "$HOSTNAME" \
		'vfio-mig setup $PF --vfs 2 --switchdev --driver mlx5_vfio_pci_rust' &&
		on "$HOSTNAME" 'vfio-mig list' && says '0000:01:00.3  mlx5_vfio_pci_rust'
}

unit() {
	on "$OTHER" 'cp /usr/share/doc/vfio-mig/examples/vfio-mig@.service /etc/systemd/system/' &&
		on "$OTHER" "sed -i 's/ --switchdev//' /etc/systemd/system/vfio-mig@.service" &&
		printed operators.rst "$OTHER" 'systemctl daemon-reload' &&
		printed operators.rst "$OTHER" 'systemctl enable --now vfio-mig@$PF' &&
		on "$OTHER" 'vfio-mig list' && says '0000:01:00.3  mlx5_vfio_pci_rust'
}

compared() {
	refused operators.rst "$HOSTNAME" 'vfio-mig doctor --json > report' || return
	on "$OTHER" "scp $HOSTNAME:report ." || return
	refused operators.rst "$OTHER" 'vfio-mig doctor --compare report' || return
	! grep '^missing ' <<< "$said" | grep -qv 'configuration\|dirty pages' ||
		fail "something else is missing" || return
	refused operators.rst "$HOSTNAME" 'vfio-mig doctor $PF --open' &&
		says '0000:01:00.2 migratable    yes'
}

moved() {
	on "$HOSTNAME" "vfio-mig migrate \$VF \"exec:ssh $OTHER vfio-mig receive \$VF --listen -\"" &&
		says "$OTHER"
}

# The page's domain, with a guest that is small, and a log of its console.
domain() {
	sed -e "s|<memory unit='GiB'>4<|<memory unit='MiB'>256<|" \
		-e "s|</memory>|&<memoryBacking><hugepages/></memoryBacking>|" \
		-e 's|<vcpu>2<|<vcpu>1<|' -e "s|function='0x4'|function='0x2'|" \
		-e "s|<console type='pty'/>|<console type='pty'><log file='$CONSOLE'/></console>|" \
		-e "s|</type>|&<kernel>/var/lib/guest/vmlinuz</kernel>\
<initrd>/var/lib/guest/initrd</initrd>\
<cmdline>console=ttyS0 quiet panic=-1 no_timer_check</cmdline>|" \
		"$PAGES/domain.xml"
}

storage() {
	local host
	for host in "$HOSTNAME" "$OTHER"; do
		on "$host" "echo 192.168.50.1 storage.example >> /etc/hosts"
	done
	on "$HOSTNAME" 'truncate -s 1M /var/lib/guest/disk' &&
		printed libvirt.rst "$HOSTNAME" 'qemu-nbd --fork --persistent --bind=storage.example --shared=4 --format=raw --export-name=guest /var/lib/guest/disk'
}

started() {
	domain > /root/domain.xml
	storage && on "$HOSTNAME" 'virsh define domain.xml' && on "$HOSTNAME" 'virsh start guest' &&
		on "$HOSTNAME" 'virsh list' && says running || return
	begins
	runs_on "$HOSTNAME"
}

MIGRATE='virsh migrate --live --verbose --p2p --persistent --undefinesource guest qemu+ssh://$DESTINATION/system'

untracked() {
	refused libvirt.rst "$HOSTNAME" "$MIGRATE" &&
		says 'ram_save_setup failed: Operation not supported' && runs_on "$HOSTNAME"
}

# As if another kernel had been booted: with the stock kernel's VFIO, built with bitmaps.
tracking() {
	local host
	on "$HOSTNAME" 'virsh destroy guest' || return
	for host in "$HOSTNAME" "$OTHER"; do
		printed installing.rst "$host" 'vfio-mig setup $PF --undo' &&
			printed installing.rst "$host" 'rmmod mlx5_vfio_pci_rust vfio_rust' || return
		there "$host" 'rmmod vfio_pci_core vfio_iommu_type1 vfio
			cd /lib/modules/$(uname -r)/updates && rm -r dkms && cp /usr/lib/bitmaps/*.ko . &&
			depmod && modprobe mlx5_vfio_pci_rust &&
			vfio-mig setup $PF --vfs 2 --driver mlx5_vfio_pci_rust' >> "$typed" || return
	done
}

restarted() {
	on "$HOSTNAME" 'virsh start guest' || return
	there "$HOSTNAME" ": > $CONSOLE"
	begins
	runs_on "$HOSTNAME"
}

migrated() {
	printed libvirt.rst "$HOSTNAME" "$MIGRATE" && on "$OTHER" 'virsh list' && says running &&
		runs_on "$OTHER" &&
		on "$OTHER" 'virsh domjobinfo guest --completed' &&
		on "$HOSTNAME" 'virsh list --all' && [[ $said != *guest* ]]
}

# To another VF than it had.
returned() {
	printed libvirt.rst "$OTHER" 'virsh dumpxml --migratable guest > guest.xml' &&
		on "$OTHER" "sed -i \"/<source>/,/<.source>/s/function='0x2'/function='0x3'/\" guest.xml" &&
		printed libvirt.rst "$OTHER" 'virsh migrate --live --verbose --p2p --persistent --undefinesource --xml guest.xml --persistent-xml guest.xml guest qemu+ssh://$DESTINATION/system' &&
		runs_on "$HOSTNAME" &&
		on "$HOSTNAME" "virsh dumpxml guest | grep -A 5 '<hostdev'" && says "function='0x3'"
}

aborted() {
	local migration
	on "$HOSTNAME" 'virsh migrate-setspeed guest 1' || return
	there "$HOSTNAME" "$MIGRATE > migration.log 2>&1" &
	migration=$!
	becomes "the migration goes on" 120 \
		there "$HOSTNAME" 'virsh domjobinfo guest | grep -q "Data processed: *[1-9]"' &&
		printed libvirt.rst "$HOSTNAME" 'virsh domjobinfo guest' &&
		printed libvirt.rst "$HOSTNAME" \
			"virsh qemu-monitor-command guest --hmp 'info migrate_capabilities'" &&
		says 'return-path: on' && says 'switchover-ack: on' &&
		printed libvirt.rst "$HOSTNAME" "virsh qemu-monitor-command guest --hmp 'info migrate'" &&
		says vfio= &&
		printed libvirt.rst "$HOSTNAME" 'virsh domjobabort guest' || return
	! wait $migration && on "$HOSTNAME" 'cat migration.log' && says 'canceled by client' &&
		on "$HOSTNAME" 'virsh migrate-setspeed guest 1000' && runs_on "$HOSTNAME"
}

# The other host has no VF for it.
missing() {
	printed installing.rst "$OTHER" 'vfio-mig setup $PF --undo' || return
	refused libvirt.rst "$HOSTNAME" "$MIGRATE" && says 'not found' &&
		runs_on "$HOSTNAME" || return
	printed operators.rst "$OTHER" \
		'vfio-mig setup $PF --vfs 2 --switchdev --driver mlx5_vfio_pci_rust'
}

# shellcheck source=tools/testing/vm/operator/more.sh
. ./more.sh

report 'KTAP version 1'
becomes "the other host" 900 there "$OTHER" true
step "modprobe loads the driver that DKMS has built" loaded
step "the doctor says that the distribution's kernel reports no dirty pages" lacking
step "vfio-mig setup makes VFs" vfs
step "on the other host, the unit does" unit
step "the doctor compares the hosts" compared
step "vfio-mig moves the state of a VF to the other host" moved
step "libvirt starts a VM with a VF" started
step "without reports of dirty pages its migration fails, and it goes on" untracked
step "both hosts get a kernel that reports dirty pages" tracking
step "libvirt starts the VM again" restarted
step "libvirt migrates it to the other host" migrated
step "and back, to another VF" returned
step "a migration is given up, and the VM goes on" aborted
step "a host without the VF refuses it, and the VM goes on" missing
step "a pool gives the VM a VF on each host" pooled
step "QEMU alone migrates it" alone
report "1..$number"
report @done
there "$OTHER" poweroff
poweroff
