// SPDX-License-Identifier: GPL-2.0
/* Helpers of kernel/, in files that are named as those in rust/helpers. */

#include "barrier.c"
#include "device.c"
#include "dma.c"
#include "module.c"
#include "page.c"
#include "signal.c"
#include "uaccess.c"
#include "wait.c"
