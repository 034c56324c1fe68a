// SPDX-License-Identifier: GPL-2.0

//! PRE_COPY, and VFIO_MIG_GET_PRECOPY_INFO.

mod ends;
mod info;
mod reinit;
mod session;

use super::Test;
use ends::{
    more_data_wakes_poll,
    poll_says_readable,
    poll_waits_for_more,
    stop_copy_wakes_poll,
    temporary_end,
    temporary_end_again, //
};
use info::{
    argsz,
    dirty_bytes_begin_at_zero,
    dirty_bytes_follow_changes,
    fields_are_output,
    initial_bytes_are_not_zero,
    initial_bytes_decrease,
    is_there,
    not_after_precopy,
    only_in_precopy, //
};
use reinit::{
    flags_are_output,
    no_reinit_without_opt_in,
    reinit,
    reinit_counts, //
};

pub fn tests() -> Vec<Test> {
    const VALID: &str = "This ioctl is valid only in PRE_COPY states and kernel driver should \
                         return -EINVAL from any other migration state.";
    const INITIAL: &str = "This field should have a non-zero initial value and decrease as \
                           migration data is read from the device.";
    const DIRTY: &str = "This field starts at zero and may increase as the internal device \
                         state is modified or decrease as that modified state is read from \
                         the device.";
    const END: &str = "During pre-copy the migration data FD has a temporary \"end of stream\" \
                       that is reached when both initial_bytes and dirty_byte are zero.";
    const ENOMSG: &str = "When read() is done on this temporary end of stream the kernel driver \
                          should return ENOMSG from read().";
    const POLL: &str = "Userspace can wait for more data (which may never come) by using poll.";
    const OPT_IN: &str = "VFIO_PRECOPY_INFO_REINIT can be reported only after userspace opts in \
                          to VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2.";
    vec![
        Test::uapi(
            "precopy.info",
            1309,
            "Support for this ioctl is mandatory if a driver claims to support \
             VFIO_MIGRATION_PRE_COPY.",
            is_there,
        ),
        Test::uapi("precopy.info_in_stop_copy", 1258, VALID, only_in_precopy),
        Test::uapi("precopy.info_after_it", 1258, VALID, not_after_precopy),
        Test::uapi(
            "precopy.initial_bytes",
            1267,
            INITIAL,
            initial_bytes_are_not_zero,
        ),
        Test::uapi(
            "precopy.initial_bytes_decrease",
            1267,
            INITIAL,
            initial_bytes_decrease,
        ),
        Test::uapi(
            "precopy.dirty_bytes",
            1286,
            DIRTY,
            dirty_bytes_begin_at_zero,
        ),
        Test::uapi(
            "precopy.dirty_bytes_follow_changes",
            1286,
            DIRTY,
            dirty_bytes_follow_changes,
        ),
        Test::uapi(
            "precopy.fields_are_output",
            1254,
            "It returns an estimate of the current data sizes remaining to be transferred.",
            fields_are_output,
        ),
        Test::uapi("precopy.temporary_end", 1299, END, temporary_end),
        Test::uapi("precopy.enomsg", 1302, ENOMSG, temporary_end_again),
        Test::uapi("precopy.poll_waits", 1303, POLL, poll_waits_for_more),
        Test::uapi("precopy.poll_says_readable", 1303, POLL, poll_says_readable),
        Test::uapi(
            "precopy.poll_after_a_change",
            1303,
            POLL,
            more_data_wakes_poll,
        ),
        Test::uapi(
            "precopy.poll_in_stop_copy",
            1306,
            "Once in STOP_COPY the migration data FD has a permanent end of stream signaled \
             in the usual way by read() always returning 0 and poll always returning \
             readable.",
            stop_copy_wakes_poll,
        ),
        Test::expected(
            "precopy.argsz",
            "argsz says how much of the structure is there: less than all is refused",
            argsz,
        ),
        Test::uapi(
            "precopy.no_reinit_in_v1",
            1278,
            OPT_IN,
            no_reinit_without_opt_in,
        ),
        Test::uapi(
            "precopy.flags_are_output",
            1532,
            "On SET, enables the v2 pre_copy_info behaviour, where the \
             vfio_precopy_info.flags is a valid output field.",
            flags_are_output,
        ),
        Test::uapi(
            "precopy.reinit",
            1269,
            "The presence of the VFIO_PRECOPY_INFO_REINIT output flag indicates that new \
             initial data is present on the stream.",
            reinit,
        ),
        Test::uapi(
            "precopy.reinit_counts",
            1275,
            "dirty_bytes is also reset to zero and represents the state change of the \
             device relative to the new initial_bytes.",
            reinit_counts,
        ),
    ]
}
