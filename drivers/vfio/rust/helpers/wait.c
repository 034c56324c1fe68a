// SPDX-License-Identifier: GPL-2.0

#include <linux/wait.h>

void vfio_rust_init_waitqueue_head(struct wait_queue_head *queue)
{
	init_waitqueue_head(queue);
}

/*
 * Most of the time nobody waits. A waiter is added to @queue before it looks at
 * what the caller has changed, so none is missed.
 */
void vfio_rust_wake_up_waiters(struct wait_queue_head *queue)
{
	if (wq_has_sleeper(queue))
		wake_up_all(queue);
}

void vfio_rust_wait_while(struct wait_queue_head *queue, const u32 *word,
			  u32 value)
{
	wait_event(*queue, READ_ONCE(*word) != value);
}

int vfio_rust_wait_while_interruptible(struct wait_queue_head *queue,
				       const u32 *word, u32 value)
{
	return wait_event_interruptible(*queue, READ_ONCE(*word) != value);
}
