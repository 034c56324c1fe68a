# SPDX-License-Identifier: GPL-2.0
#
# The migration test, and that of dma-bufs. The Makefile includes this before
# ../lib.mk, which takes TEST_PROGS and TEST_GEN_* from here.
#
# vfio-mig is what VFIO_MIG= names, or else built by cargo from tools/vfio-mig of
# this tree. With neither, the test skips.

TEST_PROGS += vfio_migration_test.sh
TEST_GEN_PROGS += vfio_pci_dmabuf_test

# As lib.mk is going to do it, and its first rule is to stay the default.
VFIO_MIG_OUTPUT := $(or $(OUTPUT),$(shell pwd))
.DEFAULT_GOAL := all

ifneq ($(VFIO_MIG),)
TEST_GEN_FILES += vfio-mig

$(VFIO_MIG_OUTPUT)/vfio-mig: $(VFIO_MIG)
	cp $< $@
else ifneq ($(shell command -v cargo),)
TEST_GEN_FILES += vfio-mig
VFIO_MIG_TARGET := $(VFIO_MIG_OUTPUT)/vfio-mig-target
EXTRA_CLEAN += $(VFIO_MIG_TARGET)

# What is up to date, cargo knows.
.PHONY: vfio-mig-cargo
$(VFIO_MIG_OUTPUT)/vfio-mig: vfio-mig-cargo
	cargo build --release --locked --manifest-path $(top_srcdir)/tools/Cargo.toml \
		--target-dir $(VFIO_MIG_TARGET) -p vfio-mig
	cmp -s $(VFIO_MIG_TARGET)/release/vfio-mig $@ || \
		cp $(VFIO_MIG_TARGET)/release/vfio-mig $@
else
$(info no cargo, and no VFIO_MIG=: vfio_migration_test.sh is going to skip)
endif

# With O=, the script is run where its source is.
export VFIO_MIG_BUILT := $(VFIO_MIG_OUTPUT)/vfio-mig
