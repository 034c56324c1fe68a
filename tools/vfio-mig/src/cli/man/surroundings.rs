// SPDX-License-Identifier: GPL-2.0

//! What the tool reads and writes beside the files that are given to it: files, and variables of
//! its environment.

use super::super::complete;
use clap_mangen::roff::{
    bold,
    roman,
    Roff, //
};
use std::io::{
    self,
    Write, //
};

/// Names, and what the tool does with them.
type Entry = (&'static str, &'static str);

const FILES: &[Entry] = &[
    (
        "/dev/vfio/devices/vfioN, /dev/iommu",
        "A device, and its address space, where the kernel has them.",
    ),
    (
        "/dev/vfio/N, /dev/vfio/vfio",
        "Otherwise: its IOMMU group, and a type 1 container.",
    ),
    (
        "/sys/bus/pci/devices/PF/sriov_numvfs, sriov_drivers_autoprobe",
        "Written by setup, which makes VFs. It locks the folder of the PF, as bind and unbind do: \
         only one of them changes a PF and its VFs at a time.",
    ),
    (
        "/sys/bus/pci/devices/VF/driver_override, /sys/bus/pci/drivers_probe",
        "Written by setup, bind and unbind, which give VFs to a driver.",
    ),
    (
        "/sys/bus/pci/drivers/DRIVER/unbind",
        "Written by setup, bind and unbind, which take VFs from a driver.",
    ),
    (
        "/proc/PID/fd, /proc/PID/fdinfo",
        "Read for the process that has a device open.",
    ),
    (
        "/proc/config.gz, /boot/config-RELEASE, /lib/modules/RELEASE/config, \
         /lib/modules/RELEASE/build/.config",
        "Read by doctor: the kernel's configuration is in the first of them that there is.",
    ),
    (
        "/lib/modules/RELEASE/modules.dep, modules.builtin",
        "Read by doctor: the modules that are installed.",
    ),
    (
        "/sys/kernel/debug/kcov",
        "Used by fuzz, if the kernel has it: which code of the kernel it gets to.",
    ),
    (
        "/etc/vfio-mig/PF.conf",
        "The options of setup for a PF, where the udev rule of the examples is installed. The rule \
         has them read, and not the tool.",
    ),
    (
        "NAME.PID.tmp",
        "A file beside the one that save or migrate writes, until that is complete.",
    ),
    (
        "vfio-mig-hwtest.txt, vfio-mig-hwtest.json",
        "Written by hwtest to the current folder, unless --output says otherwise.",
    ),
];

const ENVIRONMENT: &[Entry] = &[
    (
        "NO_COLOR",
        "If it is set and not empty, help and usage errors have no colours in a terminal.",
    ),
    (
        "PATH",
        "Where the program of exec:COMMAND is looked for. Programs that doctor runs are named in \
         full.",
    ),
    (
        complete::VAR,
        "Set by the completions of a shell, which ask the tool what to offer.",
    ),
];

/// Writes a section with entries.
fn section(page: &mut impl Write, title: &str, entries: &[Entry]) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (names, what) in entries {
        roff.control("TP", []);
        roff.text([bold(*names)]);
        roff.text([roman(*what)]);
    }
    roff.to_writer(page)
}

/// Writes the sections about files and about the environment.
pub fn sections(page: &mut impl Write) -> io::Result<()> {
    section(page, "FILES", FILES)?;
    section(page, "ENVIRONMENT", ENVIRONMENT)
}
