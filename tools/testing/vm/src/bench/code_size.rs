// SPDX-License-Identifier: GPL-2.0

//! The code of the drivers' modules, in bytes.

use super::rows::Row;
use crate::{
    kernel,
    paths::Paths, //
};
use anyhow::{
    Context,
    Result, //
};
use vm_common::kernel::Kernel;

/// Drivers, with their modules.
const DRIVERS: [&str; 2] = ["mlx5_vfio_pci_rust", "mlx5_vfio_pci"];

/// A little-endian number of `N` bytes.
fn number<const N: usize>(file: &[u8], at: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(N)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |n, byte| (n << 8) | u64::from(*byte)),
    )
}

/// Bytes of the sections of an ELF file of 64 bits that hold code which stays loaded.
fn code(file: &[u8]) -> Option<u64> {
    let at = |value: u64| usize::try_from(value).ok();
    let table = at(number::<8>(file, 0x28)?)?;
    let size = at(number::<2>(file, 0x3a)?)?;
    let count = at(number::<2>(file, 0x3c)?)?;
    let names = at(number::<2>(file, 0x3e)?)?;
    let section = |index: usize| table.checked_add(index.checked_mul(size)?);
    let names = at(number::<8>(file, section(names)? + 0x18)?)?;
    let mut sum = 0;
    for index in 0..count {
        let header = section(index)?;
        let name = names.checked_add(at(number::<4>(file, header)?)?)?;
        if file.get(name..)?.starts_with(b".text") {
            sum += number::<8>(file, header + 0x20)?;
        }
    }
    Some(sum)
}

/// The row of a kernel: the drivers' modules, with that of our abstractions.
pub fn row(kernel: Kernel, paths: &Paths) -> Result<Row> {
    let [rust, c] = DRIVERS.map(|driver| -> Result<f64> {
        let modules = kernel::compared_modules(kernel, paths, driver)?;
        let sizes = modules.iter().map(|module| {
            code(&module.contents).with_context(|| format!("{} is no ELF file", module.name))
        });
        Ok(sizes.sum::<Result<u64>>()? as f64)
    });
    Ok(Row::new(
        kernel,
        ".text of the modules",
        "bytes",
        rust?,
        c?,
        1,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with sections of these names and sizes.
    fn elf(sections: &[(&str, u64)]) -> Vec<u8> {
        let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        let names = names.join("\0") + "\0";
        let mut file = vec![0; 0x40];
        let table = file.len() + names.len();
        file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        file[0x3a] = 0x40;
        file[0x3c] = sections.len() as u8;
        file.extend(names.as_bytes());
        let mut name = 0u32;
        for (text, size) in sections {
            let mut header = vec![0; 0x40];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&0x40u64.to_le_bytes());
            header[0x20..0x28].copy_from_slice(&size.to_le_bytes());
            file.extend(header);
            name += text.len() as u32 + 1;
        }
        file
    }

    #[test]
    fn code_that_stays_is_counted() {
        let file = elf(&[
            (".strtab", 9),
            (".text", 0x1_0000),
            (".rodata", 7),
            (".text.unlikely", 2),
            (".init.text", 5),
        ]);
        assert_eq!(code(&file), Some(0x1_0002));
    }

    #[test]
    fn a_file_that_ends_early_has_none() {
        let file = elf(&[(".text", 1)]);
        assert_eq!(code(&file[..file.len() - 0x21]), None);
        assert_eq!(code(b"\x7fELF"), None);
    }
}
