// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>
#include <linux/sched/signal.h>

bool vfio_rust_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}
