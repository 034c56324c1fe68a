// SPDX-License-Identifier: GPL-2.0

//! The PF and a VF look as real ones do: BARs, capabilities, vital product data.

use crate::{
    hca::Pf,
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    path::Path, //
};
use vfio_mig::sysfs;
use vm_common::config_space::{
    self,
    Kind, //
};

/// The serial number, unless a property says another one.
const SERIAL: &[u8] = b"NOT-A-REAL-CARD";

fn compare(kind: Kind, dir: &Path) -> Result<()> {
    let config = fs::read(dir.join("config"))?;
    let resource = fs::read_to_string(dir.join("resource"))?;
    let wrong = config_space::compare(kind, &config_space::lines(kind, &config, &resource));
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A read-only field of vital product data.
fn vpd_field<'a>(vpd: &'a [u8], keyword: &[u8]) -> Result<&'a [u8]> {
    let len = |at: usize| {
        Some(usize::from(u16::from_le_bytes([
            *vpd.get(at)?,
            *vpd.get(at + 1)?,
        ])))
    };
    ensure!(vpd.first() == Some(&0x82), "no name");
    let fields = 3 + len(1).context("no length")?;
    ensure!(vpd.get(fields) == Some(&0x90), "no read-only fields");
    let end = fields + 3 + len(fields + 1).context("no length")?;
    ensure!(vpd.get(end..) == Some(&[0x78]), "no end");
    let mut at = fields + 3;
    while at + 3 <= end {
        let value = at + 3..at + 3 + usize::from(vpd[at + 2]);
        if vpd[at..].starts_with(keyword) {
            return vpd.get(value).context("too long");
        }
        at = value.end;
    }
    bail!("no field {keyword:?}")
}

fn vpd() -> Result<()> {
    let vpd = fs::read(Pf::find()?.dir().join("vpd"))?;
    let serial = vpd_field(&vpd, b"SN")?;
    ensure!(serial == SERIAL, "serial number {serial:?}");
    // All bytes up to the checksum, which is the last one before the end.
    ensure!(vpd_field(&vpd, b"RV")?.len() == 1);
    let summed = &vpd[..vpd.len() - 1];
    let sum = summed.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    ensure!(sum == 0, "the checksum gives {sum}");
    Ok(())
}

/// The tests, of an HCA with VFs.
pub fn run(results: &mut Results) {
    results.test("the PF looks as one of an adapter", |_| {
        compare(Kind::Pf, &Pf::find()?.dir())
    });
    results.test("each VF looks as one of an adapter", |_| {
        for vf in Pf::find()?.vfs()? {
            compare(Kind::Vf, &sysfs::device_dir(vf)).with_context(|| vf.to_string())?;
        }
        Ok(())
    });
    results.test("the PF has vital product data", |_| vpd());
}
