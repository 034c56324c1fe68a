// SPDX-License-Identifier: GPL-2.0

//! PRE_COPY, and VFIO_MIG_GET_PRECOPY_INFO.

use super::{
    require, require_errno,
    site::{drain, require_state, require_workload},
    Site, Stop, Test, Verdict,
};
use crate::{
    device::Device,
    state::State,
    stream::End,
    uapi::{self, PrecopyInfo},
    workload::Workload,
};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
};

/// What each test of a workload has a device do.
const WORK: u64 = 64 << 10;

fn ask(file: &File) -> io::Result<PrecopyInfo> {
    uapi::precopy_info(file.as_fd(), PrecopyInfo::default())
}

fn info(file: &File) -> Result<PrecopyInfo, Stop> {
    ask(file).map_err(|err| Stop::Fail(format!("PRECOPY_INFO: {}", super::shown(&err))))
}

/// PRE_COPY states that the device has.
fn each_precopy_state(site: &Site, test: impl Fn(&Device, &mut File, State) -> Verdict) -> Verdict {
    let features = site.open_running()?.1;
    require_state(features, State::PRE_COPY)?;
    for state in [State::PRE_COPY, State::PRE_COPY_P2P] {
        if features.supports(state) {
            let (device, mut file) = site.open_session(state)?;
            test(&device, &mut file, state)?;
        }
    }
    Ok(())
}

fn is_there(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| match ask(file) {
        Ok(_) => Ok(()),
        Err(err) => require(false, || format!("{} in {state}", super::shown(&err))),
    })
}

fn only_in_precopy(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, _| {
        device.set_state(State::STOP_COPY)?;
        require_errno(ask(file), libc::EINVAL, "PRECOPY_INFO in STOP_COPY")
    })?;
    let (_device, file) = site.open_session(State::STOP_COPY)?;
    require_errno(ask(&file), libc::EINVAL, "PRECOPY_INFO in STOP_COPY")
}

/// Which error it is, the header leaves to the state that the device is in then.
fn not_after_precopy(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, _| {
        device.set_state(State::RUNNING)?;
        require(ask(file).is_err(), || {
            "PRECOPY_INFO in RUNNING succeeds".to_string()
        })
    })
}

fn initial_bytes_are_not_zero(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let info = info(file)?;
        require(info.initial_bytes > 0, || {
            format!("initial_bytes is 0 in {state}")
        })
    })
}

fn initial_bytes_decrease(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let mut before = info(file)?.initial_bytes;
        for size in [1, 16, 4096] {
            let n = file.read(&mut vec![0; size])? as u64;
            let after = info(file)?.initial_bytes;
            require(after <= before && before - after <= n, || {
                format!("{n} bytes read in {state}: initial_bytes goes from {before} to {after}")
            })?;
            before = after;
            if before == 0 {
                break;
            }
        }
        drain(file)?;
        let left = info(file)?.initial_bytes;
        require(left == 0, || {
            format!("all was read, and initial_bytes is {left}")
        })
    })
}

fn dirty_bytes_begin_at_zero(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let dirty = info(file)?.dirty_bytes;
        require(dirty == 0, || format!("dirty_bytes is {dirty} in {state}"))
    })
}

/// What user space left in the fields must not look like an answer.
fn fields_are_output(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let asked = PrecopyInfo {
            initial_bytes: u64::MAX,
            dirty_bytes: u64::MAX,
            ..PrecopyInfo::default()
        };
        let info = uapi::precopy_info(file.as_fd(), asked)?;
        let echoed = info.initial_bytes == u64::MAX || info.dirty_bytes == u64::MAX;
        require(!echoed, || format!("{info:?} in {state}"))
    })
}

fn temporary_end(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        let (_, end) = drain(file)?;
        require(end == End::Temporary, || {
            format!("read() returns 0 in {state}, as if that were all")
        })?;
        let info = info(file)?;
        require(info.initial_bytes == 0, || {
            format!("ENOMSG with {} initial bytes left", info.initial_bytes)
        })?;
        // The device may have changed since, but then that can be read.
        let (bytes, _) = drain(file)?;
        require(info.dirty_bytes == 0 || bytes > 0, || {
            format!("ENOMSG with {} dirty bytes left", info.dirty_bytes)
        })
    })
}

fn temporary_end_again(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, _| {
        drain(file)?;
        for _ in 0..3 {
            let read = file.read(&mut [0; 64]);
            require_errno(read, libc::ENOMSG, "read() of an idle device")?;
        }
        Ok(())
    })
}

fn poll_waits_for_more(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, state| {
        drain(file)?;
        let ready = uapi::poll(file.as_fd(), libc::POLLIN, 0)?;
        require(ready & libc::POLLIN == 0, || {
            format!("poll says readable in {state}, and read() ENOMSG")
        })
    })
}

fn poll_says_readable(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, _| {
        let left = info(file)?.initial_bytes;
        let ready = uapi::poll(file.as_fd(), libc::POLLIN, 10_000)?;
        require(left == 0 || ready & libc::POLLIN != 0, || {
            format!("{left} initial bytes, and poll does not say readable")
        })
    })
}

fn stop_copy_wakes_poll(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, _| {
        drain(file)?;
        device.set_state(State::STOP_COPY)?;
        let ready = uapi::poll(file.as_fd(), libc::POLLIN, 10_000)?;
        require(ready & libc::POLLIN != 0, || {
            "poll does not say readable in STOP_COPY".to_string()
        })
    })
}

fn argsz(site: &Site) -> Verdict {
    each_precopy_state(site, |_, file, _| {
        for argsz in [0, 8, 23] {
            let asked = PrecopyInfo {
                argsz,
                ..PrecopyInfo::default()
            };
            let result = uapi::precopy_info(file.as_fd(), asked);
            require_errno(result, libc::EINVAL, &format!("argsz {argsz}"))?;
        }
        let larger = PrecopyInfo {
            argsz: 4096,
            ..PrecopyInfo::default()
        };
        // A structure that has grown since.
        uapi::precopy_info(file.as_fd(), larger)?;
        Ok(())
    })
}

fn no_reinit_without_opt_in(site: &Site) -> Verdict {
    each_precopy_state(site, |device, file, state| {
        // Where it can be made to have new initial data.
        if state == State::PRE_COPY && require_workload(device).is_ok() {
            drain(file)?;
            create(device)?;
        }
        let flags = info(file)?.flags;
        require(flags == 0, || format!("flags 0 became {flags:#x}"))
    })
}

/// "Without this opt-in, the flags field is reserved": with it, it is not.
fn flags_are_output(site: &Site) -> Verdict {
    let (_device, mut file) = site.open_session_v2(State::PRE_COPY)?;
    for _ in 0..2 {
        for flags in [0, u32::MAX, uapi::PRECOPY_INFO_REINIT, 0xffff_fffe] {
            let asked = PrecopyInfo {
                flags,
                ..PrecopyInfo::default()
            };
            let got = uapi::precopy_info(file.as_fd(), asked)?.flags;
            require(got & !uapi::PRECOPY_INFO_REINIT == 0, || {
                format!("asked with flags {flags:#x}, answered with {got:#x}")
            })?;
            // Nothing was created, so nothing is new.
            require(got == 0, || {
                format!("asked with flags {flags:#x}, answered with REINIT")
            })?;
        }
        drain(&mut file)?;
    }
    Ok(())
}

fn create(device: &Device) -> Result<(), Stop> {
    let work = Workload {
        create_bytes: WORK,
        change_bytes: 0,
    };
    Ok(work.step(device, 0)?)
}

fn change(device: &Device) -> Result<(), Stop> {
    let work = Workload {
        create_bytes: 0,
        change_bytes: WORK,
    };
    Ok(work.step(device, 1)?)
}

fn reinit(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session_v2(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    create(&device)?;
    let new = info(&file)?;
    require(new.flags == uapi::PRECOPY_INFO_REINIT, || {
        format!("flags are {:#x}", new.flags)
    })?;
    let (bytes, end) = drain(&mut file)?;
    require(bytes > 0 && end == End::Temporary, || {
        format!("{bytes} bytes, and then {end:?}")
    })
}

/// A device with changes that nobody has read yet, and then new initial data.
fn reinit_counts(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session_v2(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    change(&device)?;
    create(&device)?;
    let new = info(&file)?;
    let reinit = new.flags == uapi::PRECOPY_INFO_REINIT;
    require(reinit && new.initial_bytes > 0, || {
        format!(
            "flags {:#x}, {} initial bytes",
            new.flags, new.initial_bytes
        )
    })?;
    require(new.dirty_bytes == 0, || {
        format!("REINIT with {} dirty bytes", new.dirty_bytes)
    })?;
    drain(&mut file)?;
    let left = info(&file)?;
    require(left.initial_bytes == 0 && left.flags == 0, || {
        format!(
            "all was read: flags {:#x}, {} initial bytes",
            left.flags, left.initial_bytes
        )
    })
}

fn dirty_bytes_follow_changes(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    change(&device)?;
    let dirty = info(&file)?.dirty_bytes;
    require(dirty > 0, || "it changed, and dirty_bytes is 0".to_string())?;
    let (bytes, _) = drain(&mut file)?;
    require(bytes > 0, || "dirty bytes cannot be read".to_string())?;
    let left = info(&file)?.dirty_bytes;
    require(left < dirty, || {
        format!("all of {dirty} dirty bytes was read, and {left} are left")
    })
}

fn more_data_wakes_poll(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::PRE_COPY)?;
    require_workload(&device)?;
    drain(&mut file)?;
    change(&device)?;
    // Asking is what makes a driver look.
    info(&file)?;
    let ready = uapi::poll(file.as_fd(), libc::POLLIN, 10_000)?;
    require(ready & libc::POLLIN != 0, || {
        "dirty bytes, and poll does not say readable".to_string()
    })
}

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
