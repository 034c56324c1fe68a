// SPDX-License-Identifier: GPL-2.0

//! VFIO_PRECOPY_INFO_REINIT: a new initial state.

use super::session::{
    begin,
    change,
    create,
    drain,
    info,
    info_and_save,
    read, //
};
use crate::scenarios::compare::Observation;
use vfio_mig::state::State;

pub(super) const OBSERVATIONS: &[Observation] = &[
    (
        "REINIT: \"initial_bytes may report a non-zero value irrespective of any previously reported values\"",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let mut seen = vec![info(&file), drain(&mut file), info_and_save(&file)];
            create(&vf, 12)?;
            seen.push(info(&file));
            seen.push(info(&file));
            seen.push(read(&mut file, 5000, &mut Vec::new()));
            seen.push(info(&file));
            seen.push(drain(&mut file));
            seen.push(info(&file));
            Ok(seen.join(" "))
        },
    ),
    (
        "REINIT: unread bytes are part of the new initial_bytes",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let mut seen = vec![read(&mut file, 700, &mut Vec::new())];
            create(&vf, 2)?;
            seen.push(info_and_save(&file));
            create(&vf, 3)?;
            seen.push(info_and_save(&file));
            seen.push(drain(&mut file));
            change(&vf, 4)?;
            seen.push(info_and_save(&file));
            create(&vf, 1)?;
            seen.push(info(&file));
            seen.push(drain(&mut file));
            Ok(seen.join(" "))
        },
    ),
    (
        "REINIT: \"dirty_bytes is also reset to zero and represents the state change of the device relative to the new initial_bytes\"",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            drain(&mut file);
            change(&vf, 50)?;
            let mut seen = vec![info_and_save(&file)];
            create(&vf, 1)?;
            seen.push(info(&file));
            drain(&mut file);
            change(&vf, 2)?;
            seen.push(info(&file));
            Ok(seen.join(" "))
        },
    ),
    (
        "\"VFIO_PRECOPY_INFO_REINIT can be reported only after userspace opts in\"",
        |site| {
            let (vf, mut file) = begin(site, false)?;
            drain(&mut file);
            create(&vf, 12)?;
            let mut seen = vec![info(&file), drain(&mut file)];
            create(&vf, 5)?;
            vf.device().opt_in_precopy_info_v2()?;
            seen.push(info(&file));
            Ok(seen.join(" "))
        },
    ),
    ("a new initial state in PRE_COPY_P2P waits", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        create(&vf, 5)?;
        vf.device().set_state(State::PRE_COPY_P2P)?;
        let mut seen = vec![info(&file), drain(&mut file)];
        vf.device().set_state(State::PRE_COPY)?;
        seen.push(info(&file));
        Ok(seen.join(" "))
    }),
];
