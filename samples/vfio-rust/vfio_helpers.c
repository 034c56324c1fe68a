// SPDX-License-Identifier: GPL-2.0
#include "../../drivers/vfio/rust/helpers.c"
