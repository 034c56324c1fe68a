// SPDX-License-Identifier: GPL-2.0

//! Completion vectors: VFs take turns with them.

use super::logged::{
    pages_of,
    scatter,
    tracked,
    ALL, //
};
use crate::scenarios::compare::Site;
use anyhow::{
    ensure,
    Result, //
};
use std::{
    collections::BTreeMap,
    fs, //
};
use vfio_mig::bdf::Bdf;

/// Interrupts of each completion vector of the PF.
fn completion_interrupts() -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string("/proc/interrupts")?;
    let vectors = text.lines().filter_map(|line| {
        let name = line
            .split_whitespace()
            .find(|word| word.starts_with("mlx5_comp"))?;
        let counts = line
            .split_whitespace()
            .skip(1)
            .map_while(|word| word.parse::<u64>().ok());
        Some((name.to_string(), counts.sum()))
    });
    Ok(vectors.collect())
}

/// The completion vector that tells of a VF's reports.
fn vector_of(vf: Bdf) -> Result<String> {
    let vf = tracked(&Site { vf, other: vf })?;
    let before = completion_interrupts()?;
    scatter(&vf, 10)?;
    pages_of(vf.device(), ALL)?;
    let mut after = completion_interrupts()?;
    after.retain(|name, count| before.get(name) != Some(count));
    let names: Vec<String> = after.into_keys().collect();
    ensure!(names.len() == 1, "a report makes interrupts {names:?}");
    Ok(names.concat())
}

/// VFs take turns with the completion vectors: there are two, as there are CPUs.
pub(super) fn vectors_are_shared_out(site: &Site) -> Result<()> {
    let (one, other) = (vector_of(site.vf)?, vector_of(site.other)?);
    ensure!(one != other, "both VFs have {one}");
    Ok(())
}
