/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of VFIO devices that migrate: arcs of the state machine, and the
 * data that moves between them. A driver of any kind may use them.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_migration

#if !defined(_TRACE_VFIO_MIGRATION_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_VFIO_MIGRATION_H

#include <linux/device.h>
#include <linux/tracepoint.h>
#include <linux/types.h>
#include <uapi/linux/vfio.h>

/* Programs that decode events do not know enum vfio_device_mig_state. */
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_ERROR);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_STOP);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RUNNING);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_STOP_COPY);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RESUMING);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RUNNING_P2P);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_PRE_COPY);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_PRE_COPY_P2P);

#define vfio_migration_show_state(state)				\
	__print_symbolic(state,						\
			 { VFIO_DEVICE_STATE_ERROR, "ERROR" },		\
			 { VFIO_DEVICE_STATE_STOP, "STOP" },		\
			 { VFIO_DEVICE_STATE_RUNNING, "RUNNING" },	\
			 { VFIO_DEVICE_STATE_STOP_COPY, "STOP_COPY" },	\
			 { VFIO_DEVICE_STATE_RESUMING, "RESUMING" },	\
			 { VFIO_DEVICE_STATE_RUNNING_P2P, "RUNNING_P2P" }, \
			 { VFIO_DEVICE_STATE_PRE_COPY, "PRE_COPY" },	\
			 { VFIO_DEVICE_STATE_PRE_COPY_P2P, "PRE_COPY_P2P" })

/*
 * A device went from one state to the next, or failed to. @ret is 0 or a
 * negative errno. @ns is the time that it took, in nanoseconds, or 0 if the
 * event was turned on in between.
 */
TRACE_EVENT(vfio_migration_arc,
	TP_PROTO(struct device *dev, u32 from, u32 to, int ret, s64 ns),
	TP_ARGS(dev, from, to, ret, ns),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u32, from)
		__field(u32, to)
		__field(int, ret)
		__field(s64, ns)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->from = from;
		__entry->to = to;
		__entry->ret = ret;
		__entry->ns = ns;
	),
	TP_printk("%s %s -> %s ret=%d ns=%lld", __get_str(device),
		  vfio_migration_show_state(__entry->from),
		  vfio_migration_show_state(__entry->to),
		  __entry->ret, __entry->ns)
);

/* Saving of at most @bytes begins, or loading of exactly @bytes. */
DECLARE_EVENT_CLASS(vfio_migration_begin,
	TP_PROTO(struct device *dev, u64 bytes),
	TP_ARGS(dev, bytes),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u64, bytes)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->bytes = bytes;
	),
	TP_printk("%s bytes=%llu", __get_str(device), __entry->bytes)
);

/* @bytes were saved, loaded or reported, unless @ret is an error. */
DECLARE_EVENT_CLASS(vfio_migration_end,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u64, bytes)
		__field(int, ret)
		__field(s64, ns)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->bytes = bytes;
		__entry->ret = ret;
		__entry->ns = ns;
	),
	TP_printk("%s bytes=%llu ret=%d ns=%lld", __get_str(device),
		  __entry->bytes, __entry->ret, __entry->ns)
);

DEFINE_EVENT(vfio_migration_begin, vfio_migration_save_begin,
	TP_PROTO(struct device *dev, u64 bytes),
	TP_ARGS(dev, bytes));
DEFINE_EVENT(vfio_migration_end, vfio_migration_save_end,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));
DEFINE_EVENT(vfio_migration_begin, vfio_migration_load_begin,
	TP_PROTO(struct device *dev, u64 bytes),
	TP_ARGS(dev, bytes));
DEFINE_EVENT(vfio_migration_end, vfio_migration_load_end,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));

/* A report of dirty pages has ended: @bytes of memory are dirty. */
DEFINE_EVENT(vfio_migration_end, vfio_migration_dirty_report,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));

/* The answer to VFIO_MIG_GET_PRECOPY_INFO. */
TRACE_EVENT(vfio_migration_precopy_info,
	TP_PROTO(struct device *dev, u64 initial, u64 dirty, bool reinit),
	TP_ARGS(dev, initial, dirty, reinit),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u64, initial)
		__field(u64, dirty)
		__field(bool, reinit)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->initial = initial;
		__entry->dirty = dirty;
		__entry->reinit = reinit;
	),
	TP_printk("%s initial_bytes=%llu dirty_bytes=%llu%s",
		  __get_str(device), __entry->initial, __entry->dirty,
		  __entry->reinit ? " REINIT" : "")
);

#endif /* _TRACE_VFIO_MIGRATION_H */

#include <trace/define_trace.h>
