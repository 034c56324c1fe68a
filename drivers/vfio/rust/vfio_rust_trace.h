/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints of variant drivers: arcs, and the data moved between them. */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_rust

#if !defined(VFIO_RUST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VFIO_RUST_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

#define vfio_rust_show_state(state) __print_symbolic(state, \
	{ 0, "ERROR" }, { 1, "STOP" }, { 2, "RUNNING" }, { 3, "STOP_COPY" }, \
	{ 4, "RESUMING" }, { 5, "RUNNING_P2P" }, { 6, "PRE_COPY" }, \
	{ 7, "PRE_COPY_P2P" })

TRACE_EVENT(vfio_rust_arc,
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
		  vfio_rust_show_state(__entry->from),
		  vfio_rust_show_state(__entry->to),
		  __entry->ret, __entry->ns)
);

DECLARE_EVENT_CLASS(vfio_rust_transfer,
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

DEFINE_EVENT(vfio_rust_transfer, vfio_rust_save_begin,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));
DEFINE_EVENT(vfio_rust_transfer, vfio_rust_save_end,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));
DEFINE_EVENT(vfio_rust_transfer, vfio_rust_load_begin,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));
DEFINE_EVENT(vfio_rust_transfer, vfio_rust_load_end,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));
DEFINE_EVENT(vfio_rust_transfer, vfio_rust_dirty_report,
	TP_PROTO(struct device *dev, u64 bytes, int ret, s64 ns),
	TP_ARGS(dev, bytes, ret, ns));

TRACE_EVENT(vfio_rust_precopy_info,
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

#endif /* VFIO_RUST_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vfio_rust_trace
#include <trace/define_trace.h>
