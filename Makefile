# SPDX-License-Identifier: GPL-2.0
#
# The project's own targets. For the kernel's build system there is Kbuild.

VM := tools/testing/vm

# The kernel of this machine, unless there is another one.
KDIR ?= /lib/modules/$(shell uname -r)/build

# Where `make install` puts vfio-mig, below $DESTDIR.
PREFIX ?= /usr/local

# Recipes take these from the environment: make would write a value into the shell's
# text as it is, and a quote in it would be one of the shell's.
export TEST SEED FAULT RUNS BENCH HOURS PART SLICE MUTANT AUTHOR SERIES KERNEL SCENARIO FUZZ INPUT KDIR PREFIX DESTDIR

# What make was called with: its targets, and the names of variables.
export GOALS = $(MAKECMDGOALS)
export GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))

help:
	@echo 'make run              migrate between two emulated VFs with our driver and the C'
	@echo '                      driver, and report; RUNS=N migrations with each'
	@echo 'make run-qemu         have QEMU migrate a running guest, with a commentary'
	@echo 'make run-net          have QEMU migrate a guest whose mlx5e streams through a VF, with'
	@echo '                      each driver, and plot it'
	@echo 'make check            run all tests but the long ones; TEST=GROUP for some of'
	@echo '                      them, SEED=N to have the random ones again'
	@echo 'make check-all        the same at full length, and the long ones'
	@echo 'make check-qemu       all tests of QEMU migrating a running guest'
	@echo 'make check-qemu-faults  the same with devices that fail, as a table;'
	@echo '                      FAULT=NAME for some of them'
	@echo 'make check-net        all tests of QEMU migrating a guest that streams'
	@echo 'make check-deb        install, upgrade and remove the packages in a Debian, and use the'
	@echo '                      driver that DKMS has built in a test machine'
	@echo 'make check-operator   do what the pages tell an operator, on two hosts that are test machines:'
	@echo '                      from the packages to a VM that libvirt migrates'
	@echo 'make fuzz FUZZ=...    fuzz a target until something is found; INPUT=FILE: run just'
	@echo '                      that input'
	@echo 'make bench            measure our driver and the C driver; RUNS=N of each kind'
	@echo '                      BENCH=paths, profile, overlap, reinit, dirty, qemu or net:'
	@echo '                      just one'
	@echo 'make campaign         have machines fail in all ways for HOURS=N, or until there are'
	@echo '                      enough, and go on with that the next time; PART=NAME: only a part;'
	@echo '                      SLICE=MACHINE:SEED: only that machine again'
	@echo 'make mutants          apply small faults to our drivers, one at a time, and run the tests'
	@echo '                      that should notice, for HOURS=N or until all were run, and go on'
	@echo '                      with that the next time; MUTANT=NAME: only that'
	@echo 'make bench-table      put the results of BENCH=paths into README.md'
	@echo 'make modules KDIR=... build the driver for a prepared kernel, to out/modules'
	@echo 'make modules_install  install what that has built, to /lib/modules; KDIR=... as there,'
	@echo '                      INSTALL_MOD_PATH=FOLDER: below a folder'
	@echo 'make tools            build vfio-mig, as out/vfio-mig'
	@echo 'make install          install it, with its manual page and completions, to /usr/local;'
	@echo '                      PREFIX=FOLDER: elsewhere, DESTDIR=FOLDER: below a folder'
	@echo 'make deb              make Debian packages of the driver, for DKMS, and of vfio-mig, in'
	@echo '                      out/deb'
	@echo 'make mlx5-emu         build the emulated ConnectX for a QEMU of yours, as'
	@echo '                      out/mlx5-emu.so, and show how to use it'
	@echo 'make series           cut this tree into series of patches for the kernel'"'"'s maintainers,'
	@echo '                      in out/series, by AUTHOR="NAME <ADDRESS>", or the one that git knows;'
	@echo '                      SERIES=NAME: only that series'
	@echo 'make check-series     the same, build the kernel after each patch, for two architectures,'
	@echo '                      and boot what each series leaves; SERIES=NAME: only that series'
	@echo 'make intree           build Linux with the driver in its tree'
	@echo 'make debug            the same, by clang and with all checkers'
	@echo 'make scenario KERNEL=stock|intree|bare|builtin|debug|fixed SCENARIO=...'
	@echo '                      run one scenario in one test machine; FAULT=NAME: a fault of'
	@echo '                      the C driver, for SCENARIO=c-driver'
	@echo 'make list             show all scenarios'
	@echo 'make clean            remove results and objects; the cache stays'
	@echo 'make distclean        remove the cache, too: all that make has downloaded and built'

# $(call vm-test,COMMAND ARGUMENT...): with what it needs, made before, and names looked up
# before that. In place of the shell: make's signal to that would not reach them.
define vm-test
@exec $(VM)/names.sh judge $@
@exec $(VM)/prepare.sh for $(1)
@exec $(VM)/vm-test.sh $(1)
endef

# From nothing to a report.
run:
	$(call vm-test,run $${RUNS:+--runs="$$RUNS"})

run-qemu:
	$(call vm-test,run-qemu)

run-net:
	$(call vm-test,run-net)

check:
	$(call vm-test,check $${TEST:+--only="$$TEST"} $${SEED:+--seed="$$SEED"})

check-all:
	$(call vm-test,check --all $${TEST:+--only="$$TEST"} $${SEED:+--seed="$$SEED"})

check-qemu:
	$(call vm-test,scenario --kernel=intree -- qemu-suite)

check-qemu-faults:
	$(call vm-test,check-qemu-faults $${FAULT:+--fault="$$FAULT"})

check-net:
	$(call vm-test,scenario --kernel=stock -- net-suite)
	$(call vm-test,scenario --kernel=stock -- net-often)
	$(call vm-test,scenario --kernel=stock -- net-changes)
	$(call vm-test,scenario --kernel=stock -- net-faults)

fuzz:
	$(call vm-test,fuzz --target="$$FUZZ" $${INPUT:+--input="$$INPUT"})

bench:
	$(call vm-test,bench $${RUNS:+--runs="$$RUNS"} $${BENCH:+--only="$$BENCH"})

campaign:
	$(call vm-test,campaign $${HOURS:+--hours="$$HOURS"} $${PART:+--only="$$PART"} \
		$${SEED:+--seed="$$SEED"} $${SLICE:+--slice="$$SLICE"})

mutants:
	$(call vm-test,mutants $${HOURS:+--hours="$$HOURS"} $${MUTANT:+--only="$$MUTANT"} \
		$${SEED:+--seed="$$SEED"})

bench-table:
	$(call vm-test,bench-table)

tools:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh tools
	@echo 'vfio-mig is out/vfio-mig; make install installs it'

tool: tools

# As it is: who installs may be root, or have no sysroot.
install:
	@$(VM)/names.sh judge $@
	@[ -x out/vfio-mig ] || { echo 'there is no out/vfio-mig; make tools builds it' >&2; exit 1; }
	@tools/packaging/install-tool.sh "$$DESTDIR$$PREFIX"

deb:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh deb
	@ls out/deb/*.deb

check-deb:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh stock packages
	@$(VM)/enter.sh tools/packaging/check.sh
	$(call vm-test,scenario --kernel=stock -- packages)

check-operator:
	$(call vm-test,check-operator)

mlx5-emu:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh mlx5-emu
	@$(VM)/mlx5-emu-usage.sh

series:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh series
	@$(VM)/check-series.sh mails

check-series:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh series series-boot fixed
	@$(VM)/check-series.sh

intree:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh intree
	@$(VM)/kernel-usage.sh intree

debug:
	@$(VM)/names.sh judge $@
	@$(VM)/prepare.sh debug
	@$(VM)/kernel-usage.sh debug

scenario:
	$(call vm-test,scenario --kernel="$$KERNEL" $${SEED:+--seed="$$SEED"} \
		$${FAULT:+--only="$$FAULT"} -- "$$SCENARIO")

list:
	@$(VM)/names.sh judge $@
	@$(VM)/names.sh list

# For a kernel on this machine, as any external module. Objects do not go to the
# checkout: kbuild refuses to build a tree with objects in it into another folder.
modules:
	@$(VM)/names.sh judge $@
	@[ -e "$$KDIR/Makefile" ] || { printf '%s\n' \
		"KDIR=$$KDIR is no build folder of a kernel; give one with CONFIG_RUST:" \
		'    make modules KDIR=FOLDER' >&2; exit 1; }
	@case $$(pwd) in *[[:space:]:]*) printf '%s\n' \
		"kbuild builds nothing in a folder with a blank or a colon in its path:" \
		"    $$(pwd)" >&2; exit 1;; esac
	$(MAKE) -C "$$KDIR" M="$$(pwd)" MO="$$(pwd)/out/modules" modules

# Kbuild honours INSTALL_MOD_PATH and INSTALL_MOD_DIR, and calls depmod.
modules_install:
	@$(VM)/names.sh judge $@
	@[ -e out/modules/modules.order ] || { \
		echo 'there is nothing in out/modules; make modules KDIR=FOLDER builds it' >&2; exit 1; }
	$(MAKE) -C "$$KDIR" M="$$(pwd)" MO="$$(pwd)/out/modules" modules_install

# Also what kbuild leaves in the checkout if it is given no MO=. Who used sudo has files of
# root in out.
clean:
	@rm -rf out 2> /dev/null || if [ "$$(id -u)" = 0 ]; then rm -rf out; else \
		echo 'out has files of root:' && sudo rm -rf out; fi
	find . \( -path ./.git -o -path ./tools \) -prune -o -type f \( -name '*.o' \
		-o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o -name '.*.cmd' \
		-o -name modules.order -o -name Module.symvers \
		-o -name '*_generated.rs' -o -name '*_generated.h' -o -name '*.rmeta' \
		-o -name kernel_names.txt \) -exec rm -f {} +

distclean:
	@$(VM)/names.sh judge $@
	@$(VM)/distclean.sh
	@$(MAKE) --no-print-directory clean

# A name is not written into the text of a shell.
.DEFAULT:
	@exec $(VM)/names.sh no-target

# `make KDIR=...` is enough.
.DEFAULT_GOAL := $(if $(filter command environment,$(firstword $(origin KDIR))),modules,help)
.PHONY: help run run-qemu run-net check check-all check-qemu check-qemu-faults check-net fuzz bench campaign mutants bench-table tools tool install deb check-deb check-operator mlx5-emu intree debug scenario list modules modules_install clean distclean series check-series
