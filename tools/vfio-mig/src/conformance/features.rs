// SPDX-License-Identifier: GPL-2.0

//! VFIO_DEVICE_FEATURE, and what it says of migration.

use super::{
    require,
    require_errno,
    skip,
    Site,
    Test,
    Verdict, //
};
use crate::{
    device::Device,
    state::{
        Features,
        State, //
    },
    uapi, //
};
use std::{
    io,
    os::fd::AsFd, //
};

/// Features that each device with migration has, and which of GET and SET each takes.
const MIGRATION: &[(u32, u32, &str)] = &[
    (uapi::FEATURE_MIGRATION, uapi::FEATURE_GET, "MIGRATION"),
    (
        uapi::FEATURE_MIG_DEVICE_STATE,
        uapi::FEATURE_GET | uapi::FEATURE_SET,
        "MIG_DEVICE_STATE",
    ),
    (
        uapi::FEATURE_MIG_DATA_SIZE,
        uapi::FEATURE_GET,
        "MIG_DATA_SIZE",
    ),
];

/// Features that a device may also have.
const OTHERS: &[(u32, u32, &str)] = &[(uapi::FEATURE_DMA_BUF, uapi::FEATURE_GET, "DMA_BUF")];

/// The features of a device: those of migration, and the others that the device says it has.
fn features(device: &Device) -> Vec<(u32, u32, &'static str)> {
    let others = OTHERS
        .iter()
        .filter(|(number, ..)| feature(device, uapi::FEATURE_PROBE | number).is_ok());
    MIGRATION.iter().chain(others).copied().collect()
}

fn feature(device: &Device, flags: u32) -> io::Result<[u32; 4]> {
    let mut data = [0; 4];
    uapi::feature(device.fd(), flags, &mut data)?;
    Ok(data)
}

fn feature_of(device: &Device, argsz: u32, flags: u32) -> io::Result<()> {
    uapi::feature_with_argsz(device.fd(), argsz, flags, &mut [0; 4])
}

fn probing(site: &Site) -> Verdict {
    let device = site.open()?;
    for (number, methods, name) in features(&device) {
        for method in [0, uapi::FEATURE_GET, uapi::FEATURE_SET] {
            let flags = uapi::FEATURE_PROBE | number | (methods & method);
            if let Err(err) = feature(&device, flags) {
                return require(false, || format!("probing {name}: {err}"));
            }
        }
    }
    Ok(())
}

fn probing_a_method_that_is_not_there(site: &Site) -> Verdict {
    let device = site.open()?;
    for (number, methods, name) in features(&device) {
        for method in [uapi::FEATURE_GET, uapi::FEATURE_SET] {
            if methods & method == 0 {
                let flags = uapi::FEATURE_PROBE | number | method;
                require(feature(&device, flags).is_err(), || {
                    format!("{name} can be probed for a method that it does not have")
                })?;
            }
        }
    }
    Ok(())
}

fn probing_without_data(site: &Site) -> Verdict {
    let device = site.open()?;
    for (number, methods, name) in features(&device) {
        let flags = uapi::FEATURE_PROBE | number | methods;
        // Just argsz and flags.
        if let Err(err) = feature_of(&device, 8, flags) {
            return require(false, || format!("probing {name} with argsz 8: {err}"));
        }
    }
    Ok(())
}

fn get_and_set_exclude_each_other(site: &Site) -> Verdict {
    let device = site.open()?;
    let both = uapi::FEATURE_GET | uapi::FEATURE_SET;
    let result = feature(&device, both | uapi::FEATURE_MIG_DEVICE_STATE);
    require_errno(result, libc::EINVAL, "GET and SET at once")?;
    require(device.state()? == State::RUNNING, || {
        "it was refused, but carried out".to_string()
    })
}

fn reserved_flags(site: &Site) -> Verdict {
    let device = site.open()?;
    for bit in 19..32 {
        let flags = uapi::FEATURE_GET | uapi::FEATURE_MIGRATION | (1 << bit);
        let of = format!("flag {:#x}", 1u64 << bit);
        require_errno(feature(&device, flags), libc::EINVAL, &of)?;
    }
    Ok(())
}

fn small_argsz(site: &Site) -> Verdict {
    let device = site.open()?;
    for argsz in [0, 4, 7] {
        let flags = uapi::FEATURE_PROBE | uapi::FEATURE_MIGRATION;
        let of = format!("argsz {argsz}");
        require_errno(feature_of(&device, argsz, flags), libc::EINVAL, &of)?;
    }
    for (number, methods, name) in features(&device) {
        let flags = number | (methods & uapi::FEATURE_GET);
        let of = format!("{name} without room for its data");
        require_errno(feature_of(&device, 8, flags), libc::EINVAL, &of)?;
    }
    Ok(())
}

fn unknown_feature(site: &Site) -> Verdict {
    let device = site.open()?;
    let flags = uapi::FEATURE_GET | 0xfff0;
    require_errno(feature(&device, flags), libc::ENOTTY, "feature 0xfff0")
}

fn stop_copy_is_set(site: &Site) -> Verdict {
    let (_device, features) = site.open_running()?;
    require(features.0 & Features::STOP_COPY != 0, || {
        format!("flags are {:#x}", features.0)
    })
}

fn no_undefined_flags(site: &Site) -> Verdict {
    let (_device, features) = site.open_running()?;
    require(features.0 & !7 == 0, || {
        format!("flags are {:#x}", features.0)
    })
}

fn no_data_fd_on_get(site: &Site) -> Verdict {
    let device = site.open()?;
    let flags = uapi::FEATURE_GET | uapi::FEATURE_MIG_DEVICE_STATE;
    let data = feature(&device, flags)?;
    require(data[1] == u32::MAX, || {
        format!("data_fd is {}", data[1] as i32)
    })
}

/// `data_fd` is also -1 while there is a session.
fn no_data_fd_on_get_in_a_session(site: &Site) -> Verdict {
    let (device, _file) = site.open_session(State::STOP_COPY)?;
    let flags = uapi::FEATURE_GET | uapi::FEATURE_MIG_DEVICE_STATE;
    let data = feature(&device, flags)?;
    let want = [State::STOP_COPY.0, u32::MAX];
    require(data[..2] == want, || {
        format!("state {}, data_fd {}", State(data[0]), data[1] as i32)
    })
}

fn precopy_info_v2_needs_precopy(site: &Site) -> Verdict {
    let (device, features) = site.open_running()?;
    let can = device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET);
    if features.0 & Features::PRE_COPY != 0 {
        return match can {
            true => Ok(device.opt_in_precopy_info_v2()?),
            false => skip("the kernel has no PRECOPY_INFOv2"),
        };
    }
    require(!can, || "it is offered without PRE_COPY".to_string())
}

fn precopy_info_v2_has_no_get(site: &Site) -> Verdict {
    let device = site.open()?;
    if !device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET) {
        return skip("the kernel has no PRECOPY_INFOv2, or the device no PRE_COPY");
    }
    let flags = uapi::FEATURE_GET | uapi::FEATURE_MIG_PRECOPY_INFO_V2;
    require(feature(&device, flags).is_err(), || {
        "GET succeeds".to_string()
    })
}

fn data_size_in_each_state(site: &Site) -> Verdict {
    let features = site.open_running()?.1;
    for state in State::ALL {
        if !features.supports(state) {
            continue;
        }
        let (device, _file) = match site.open_in(state) {
            Err(super::Stop::Skip(_)) => continue,
            other => other?,
        };
        if let Err(err) = device.data_size() {
            return require(false, || format!("in {state}: {err}"));
        }
    }
    Ok(())
}

/// The state of a stopped device does not change, so an estimate of 0 is wrong.
fn data_size_estimates(site: &Site) -> Verdict {
    let (device, _file) = site.open_in(State::STOP)?;
    let estimate = device.data_size()?;
    drop(device);
    let bytes = site.saved()?.len();
    require(estimate > 0, || {
        format!("the estimate is 0, but the stream has {bytes} bytes")
    })
}

fn unknown_ioctl(site: &Site) -> Verdict {
    let (_device, file) = site.open_session(State::STOP_COPY)?;
    let number = uapi::VFIO_DEVICE_FEATURE;
    let result = uapi::with_struct(file.as_fd(), number, &mut uapi::Feature::default());
    require_errno(result, libc::ENOTTY, "VFIO_DEVICE_FEATURE on a data fd")
}

pub fn tests() -> Vec<Test> {
    vec![
        Test::uapi(
            "feature.probe",
            885,
            "Probing a feature will return success if the feature is supported and all of \
             the optionally indicated GET/SET methods are supported.",
            probing,
        ),
        Test::uapi(
            "feature.probe_of_another_method",
            883,
            "A probe may optionally include the GET and/or SET bits to determine read vs \
             write access of the feature respectively.",
            probing_a_method_that_is_not_there,
        ),
        Test::uapi(
            "feature.probe_without_data",
            888,
            "The data portion is not required for probing.",
            probing_without_data,
        ),
        Test::uapi(
            "feature.get_and_set",
            889,
            "GET and SET are mutually exclusive, except for use with PROBE.",
            get_and_set_exclude_each_other,
        ),
        Test::expected(
            "feature.reserved_flags",
            "flags that have no meaning yet are refused, so that they can get one",
            reserved_flags,
        ),
        Test::expected(
            "feature.small_argsz",
            "argsz says how much of the structure is there; the rest is not touched",
            small_argsz,
        ),
        Test::expected(
            "feature.unknown",
            "ENOTTY is how user space finds out what a kernel does not have",
            unknown_feature,
        ),
        Test::uapi(
            "feature.stop_copy",
            1018,
            "at least VFIO_MIGRATION_STOP_COPY must be set.",
            stop_copy_is_set,
        ),
        Test::uapi(
            "feature.combinations",
            1034,
            "Other combinations of flags have behavior to be defined in the future.",
            no_undefined_flags,
        ),
        Test::uapi(
            "feature.get_state",
            1069,
            "Upon VFIO_DEVICE_FEATURE_GET, get the current migration state of the VFIO \
             device, data_fd will be -1.",
            no_data_fd_on_get,
        ),
        Test::uapi(
            "feature.get_state_in_a_session",
            1069,
            "Upon VFIO_DEVICE_FEATURE_GET, get the current migration state of the VFIO \
             device, data_fd will be -1.",
            no_data_fd_on_get_in_a_session,
        ),
        Test::uapi(
            "feature.precopy_info_v2",
            1532,
            "On SET, enables the v2 pre_copy_info behaviour,",
            precopy_info_v2_needs_precopy,
        ),
        Test::uapi(
            "feature.precopy_info_v2_get",
            1532,
            "On SET, enables the v2 pre_copy_info behaviour,",
            precopy_info_v2_has_no_get,
        ),
        Test::uapi(
            "data_size.each_state",
            1470,
            "Note: Can be called on each device state.",
            data_size_in_each_state,
        ),
        Test::uapi(
            "data_size.estimate",
            1467,
            "Upon VFIO_DEVICE_FEATURE_GET read back the estimated data length that will be \
             required to complete stop copy.",
            data_size_estimates,
        ),
        Test::expected(
            "session.unknown_ioctl",
            "ENOTTY is how user space finds out what a kernel does not have",
            unknown_ioctl,
        ),
    ]
}
