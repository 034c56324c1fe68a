// SPDX-License-Identifier: GPL-2.0

//! Versions, and the least that a migration takes.

use std::fmt;

/// A version: numbers with dots between them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(Vec<u32>);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// The version that a text begins with. What follows the numbers does not count.
fn leading(text: &str) -> Option<Version> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let numbers = &text[..end.unwrap_or(text.len())];
    let numbers = numbers.trim_end_matches('.').split('.');
    let numbers: Option<Vec<u32>> = numbers.map(|number| number.parse().ok()).collect();
    numbers.map(Version)
}

/// The first word of a text that is a version, with a dot in it.
pub fn find(text: &str) -> Option<Version> {
    let mut versions = text.split_whitespace().filter_map(leading);
    versions.find(|version| version.0.len() > 1)
}

impl Version {
    /// Whether it is at least this one.
    pub fn is_at_least(&self, least: &[u32]) -> bool {
        self.0[..] >= *least
    }

    /// The first number.
    pub fn major(&self) -> u32 {
        self.0.first().copied().unwrap_or(0)
    }
}

/// "7.2", for a message.
pub fn shown(version: &[u32]) -> String {
    Version(version.to_vec()).to_string()
}

/// "8.1 or later", for a message.
pub fn or_later(version: &[u32]) -> String {
    format!("{} or later", shown(version))
}

/// The oldest kernel that mlx5_vfio_pci_rust is built for.
pub const KERNEL: &[u32] = &[7, 2];
/// The first one after it that mlx5_vfio_pci_rust is not built for, with the same first number.
pub const KERNEL_TOO_NEW: &[u32] = &[KERNEL[0], 4];
/// Kernel for which NVIDIA supports migration with mlx5_vfio_pci.
pub const KERNEL_C: &[u32] = &[6, 7];
/// QEMU that migrates VFIO devices without experimental options.
pub const QEMU: &[u32] = &[8, 1];
/// libvirt that lets QEMU migrate VFIO devices.
pub const LIBVIRT: &[u32] = &[8, 6];
/// libvirt that finds a variant driver for a VF, or takes one that is named.
pub const LIBVIRT_DRIVERS: &[u32] = &[10, 0];
/// Firmware that NVIDIA supports migration with: of ConnectX-7 and of BlueField-3.
pub const FIRMWARE: &[&[u32]] = &[&[28, 41, 1000], &[32, 41, 1000]];

/// "7.2 or 7.3": the kernels that mlx5_vfio_pci_rust is built for, for a message.
pub fn kernels() -> String {
    let minors = KERNEL[1]..KERNEL_TOO_NEW[1];
    let kernels: Vec<String> = minors.map(|minor| shown(&[KERNEL[0], minor])).collect();
    kernels.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_texts() {
        for (text, version) in [
            (
                "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)",
                "11.1.3",
            ),
            ("virsh 10.0.0", "10.0.0"),
            ("7.2.12+deb13-amd64", "7.2.12"),
            ("7.3-rc1", "7.3"),
            ("28.41.1000", "28.41.1000"),
        ] {
            assert_eq!(find(text).unwrap().to_string(), version, "{text}");
        }
        for text in ["", "none", "version 7", "..", "4294967296.1"] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    #[test]
    fn the_package_is_for_the_same_kernels() {
        let text = include_str!("../../../packaging/dkms/dkms.conf");
        let bound = |name: &str| {
            let name = format!("BUILD_EXCLUSIVE_KERNEL_{name}=");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            find(value.unwrap().trim_matches('"')).unwrap()
        };
        assert_eq!(bound("MIN").to_string(), shown(KERNEL));
        let newest = bound("MAX");
        assert!(!newest.is_at_least(KERNEL_TOO_NEW));
        assert!(newest.is_at_least(&[KERNEL_TOO_NEW[0], KERNEL_TOO_NEW[1] - 1]));
        let control = include_str!("../../../packaging/debian/control");
        let kernels = kernels();
        assert!(
            control.contains(&format!("Linux {kernels} with Rust")),
            "{kernels}"
        );
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let at_least = |text, least| find(text).unwrap().is_at_least(least);
        assert!(at_least("7.10", KERNEL));
        assert!(at_least("7.2", KERNEL));
        assert!(!at_least("6.18.44", KERNEL));
        assert!(!at_least("28.39.3004", FIRMWARE[0]));
        assert!(at_least("10.0.0", LIBVIRT_DRIVERS));
    }
}
