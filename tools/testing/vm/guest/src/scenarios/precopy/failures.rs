// SPDX-License-Identifier: GPL-2.0

//! Firmware that loses track of a running device, or fails.

use super::{
    interchange::arrives,
    session::{
        begin,
        change,
        drain,
        info,
        read,
        BAD_PARAM,
        QUERY_VHCA_MIGRATION_STATE,
        SAVE_VHCA_STATE,
        SUSPEND_VHCA, //
    },
};
use crate::{
    scenarios::compare::{
        errno_name,
        outcome,
        Difference,
        Observation, //
    },
    vf::Vf, //
};
use mlx5_emu_regs as regs;
use std::fs::File;
use vfio_mig::state::State;

pub(super) const OBSERVATIONS: &[Observation] = &[
    (
        "tracking is lost: the stopped device is saved as a whole",
        |site| {
            let (vf, mut file) = begin(site, true)?;
            let mut stream = Vec::new();
            read(&mut file, usize::MAX, &mut stream);
            change(&vf, 4)?;
            vf.command(regs::CMD_LOSE_TRACKING, &[])?;
            let mut seen = vec![info(&file)];
            // The SAVE that this has started fails.
            seen.push(read(&mut file, usize::MAX, &mut stream));
            seen.push(info(&file));
            change(&vf, 4)?;
            seen.push(info(&file));
            vf.device().set_state(State::PRE_COPY_P2P)?;
            let digest = vf.digest()?;
            vf.device().set_state(State::STOP_COPY)?;
            seen.push(read(&mut file, usize::MAX, &mut stream));
            seen.push(arrives(site, digest, &stream)?.to_string());
            Ok(seen.join("; "))
        },
    ),
    ("tracking is lost, and the device goes on", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.command(regs::CMD_LOSE_TRACKING, &[])?;
        let mut seen = vec![info(&file), drain(&mut file)];
        seen.push(outcome(vf.device().set_state(State::RUNNING)));
        vf.work(1, 16)?;
        let mut file = vf.device().begin(State::PRE_COPY)?;
        seen.push(drain(&mut file));
        Ok(seen.join("; "))
    }),
    ("firmware fails to save the running device", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.command(regs::CMD_FAULT, &[SAVE_VHCA_STATE, BAD_PARAM])?;
        let mut seen = vec![info(&file), drain(&mut file), info(&file)];
        seen.push(vf.device().state()?.to_string());
        vf.device().reset()?;
        seen.push(vf.device().state()?.to_string());
        Ok(seen.join("; "))
    }),
    ("firmware fails to tell what has changed", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        change(&vf, 2)?;
        vf.command(regs::CMD_FAULT, &[QUERY_VHCA_MIGRATION_STATE, BAD_PARAM])?;
        Ok([info(&file), info(&file), drain(&mut file)].join("; "))
    }),
    ("firmware fails to begin", |site| {
        let vf = Vf::open(site.vf, 16)?;
        let mut seen = Vec::new();
        for opcode in [QUERY_VHCA_MIGRATION_STATE, SAVE_VHCA_STATE] {
            vf.command(regs::CMD_FAULT, &[opcode, BAD_PARAM])?;
            let (result, file) = match vf.device().set_state(State::PRE_COPY) {
                Ok(file) => ("ok".to_string(), file.map(File::from)),
                Err(err) => (err.errno().map_or_else(String::new, errno_name), None),
            };
            seen.push(format!("{result}, {}", vf.device().state()?));
            if let Some(mut file) = file {
                seen.push(info(&file));
                seen.push(drain(&mut file));
            }
            vf.device().reset()?;
        }
        Ok(seen.join("; "))
    }),
    ("firmware fails to stop the device", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.command(regs::CMD_FAULT, &[SUSPEND_VHCA, BAD_PARAM])?;
        let mut seen = vec![
            outcome(vf.device().set_state(State::STOP_COPY)),
            vf.device().state()?.to_string(),
            info(&file),
            drain(&mut file),
            outcome(vf.device().set_state(State::PRE_COPY_P2P)),
        ];
        vf.command(regs::CMD_FAULT, &[SUSPEND_VHCA, BAD_PARAM])?;
        seen.push(outcome(vf.device().set_state(State::STOP_COPY)));
        seen.push(vf.device().state()?.to_string());
        seen.push(outcome(vf.device().set_state(State::STOP_COPY)));
        seen.push(drain(&mut file));
        Ok(seen.join("; "))
    }),
    ("firmware fails to save the stopped device", |site| {
        let (vf, mut file) = begin(site, true)?;
        drain(&mut file);
        vf.device().set_state(State::PRE_COPY_P2P)?;
        vf.command(regs::CMD_FAULT, &[QUERY_VHCA_MIGRATION_STATE, BAD_PARAM])?;
        let mut seen = vec![
            outcome(vf.device().set_state(State::STOP_COPY)),
            vf.device().state()?.to_string(),
            drain(&mut file),
            outcome(vf.device().set_state(State::RUNNING)),
        ];
        seen.push(vf.device().state()?.to_string());
        vf.device().reset()?;
        seen.push(format!("{:?}", vf.work(1, 16).is_ok()));
        Ok(seen.join("; "))
    }),
];

pub(super) const DIFFERENCES: &[Difference] = &[Difference {
    name: "firmware fails to save the stopped device",
    c: "EINVAL; PRE_COPY_P2P; 0, then ENODEV; ENODEV; PRE_COPY_P2P; true",
    rust: "EINVAL; PRE_COPY_P2P; 0, then ENODEV; ok; RUNNING; true",
    reason: "the C driver has suspended the device by then and does not resume \
                 it; the Rust driver undoes the first half of the arc, so that the \
                 guest can run on",
}];
