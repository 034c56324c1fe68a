// SPDX-License-Identifier: GPL-2.0

//! QEMU and libvirt.

use super::{
    report::Check,
    versions::{
        self,
        Version, //
    },
};
use crate::{
    bounded::{
        self,
        Bounds, //
    },
    host::Host,
    text, //
};
use std::time::Duration;

/// Where distributions have QEMU.
const QEMU: &[&str] = &[
    "/usr/local/bin/qemu-system-x86_64",
    "/usr/bin/qemu-system-x86_64",
    "/usr/bin/qemu-system-aarch64",
    "/usr/libexec/qemu-kvm",
];
/// Where they have what tells libvirt's version.
const LIBVIRT: &[&str] = &[
    "/usr/sbin/libvirtd",
    "/usr/sbin/virtqemud",
    "/usr/bin/virsh",
];

/// What a program may take to say its version. It runs as root.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    bytes: 16 << 10,
};

/// A program.
struct Program {
    path: &'static str,
    /// The first line that it prints about its version, or why there is none.
    said: Result<String, String>,
}

impl Program {
    /// The first of those that are there.
    fn find(host: &Host, paths: &[&'static str]) -> Option<Self> {
        let path = paths.iter().find(|path| host.exists(path))?;
        let printed = bounded::output(&host.at(path), &["--version"], BOUNDS);
        let first = |text: String| text::shown(text.lines().next().unwrap_or_default().trim());
        Some(Self {
            path,
            said: printed.map(first),
        })
    }

    fn version(&self) -> Option<Version> {
        versions::find(self.said.as_ref().ok()?)
    }

    /// The version is unknown.
    fn unknown(&self, name: &str) -> Check {
        let found = match &self.said {
            Ok(line) => format!("unknown: {} --version says \"{line}\"", self.path),
            Err(why) => format!("unknown: {} --version: {why}", self.path),
        };
        Check::warning(name, found).run(format!("{} --version", self.path))
    }
}

fn qemu(host: &Host) -> Check {
    const NAME: &str = "QEMU";
    let least = versions::or_later(versions::QEMU);
    let Some(program) = Program::find(host, QEMU) else {
        let found = format!("none of {}", QEMU.join(", "));
        let advice = format!("install QEMU {least}, unless another program runs the VMs");
        return Check::warning(NAME, found).say(advice);
    };
    match program.version() {
        Some(version) if version.is_at_least(versions::QEMU) => {
            Check::ok(NAME, format!("{version}, {}", program.path))
        }
        Some(version) => {
            let found = format!("{version}: too old to migrate VFIO devices");
            Check::missing(NAME, found).say(format!("install QEMU {least}"))
        }
        None => program.unknown(NAME),
    }
}

/// VMs can do without it.
fn libvirt(host: &Host) -> Check {
    const NAME: &str = "libvirt";
    let Some(program) = Program::find(host, LIBVIRT) else {
        return Check::ok(NAME, "none, and none is needed");
    };
    let [least, drivers] = [versions::LIBVIRT, versions::LIBVIRT_DRIVERS].map(versions::or_later);
    match program.version() {
        Some(version) if version.is_at_least(versions::LIBVIRT_DRIVERS) => {
            Check::ok(NAME, format!("{version}, {}", program.path))
        }
        Some(version) if version.is_at_least(versions::LIBVIRT) => {
            let found = format!("{version}: binds managed VFs to vfio-pci, which cannot migrate");
            let advice = format!(
                "install libvirt {drivers}, or give VMs hostdevs with managed='no' that are bound \
                 with vfio-mig bind"
            );
            Check::warning(NAME, found).say(advice)
        }
        Some(version) => {
            let found = format!("{version}: too old to migrate VFIO devices");
            Check::missing(NAME, found).say(format!("install libvirt {least}, better {drivers}"))
        }
        None => program.unknown(NAME),
    }
}

/// Both.
pub fn all(host: &Host) -> [Check; 2] {
    [qemu(host), libvirt(host)]
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::Verdict::{
            Missing,
            Ok,
            Warning, //
        },
        *, //
    };
    use crate::host::fake::Fake;
    use std::{
        fs,
        os::unix::fs::PermissionsExt, //
    };

    fn program(fake: &Fake, path: &str, does: &str) {
        fake.write(path, &format!("#!/bin/sh\n{does}\n"));
        let path = fake.host().at(format!("/{path}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn old_programs_are_named() {
        let fake = Fake::new("programs");
        let verdicts = || all(&fake.host()).map(|check| check.verdict);
        assert_eq!(verdicts(), [Warning, Ok]);
        for (qemu, libvirt, expected) in [
            (
                "QEMU emulator version 11.1.3 (Debian)",
                "libvirtd (libvirt) 11.0.0",
                [Ok, Ok],
            ),
            (
                "QEMU emulator version 8.0.2",
                "libvirtd (libvirt) 9.5.0",
                [Missing, Warning],
            ),
            ("who knows", "libvirtd (libvirt) 8.5.0", [Warning, Missing]),
        ] {
            program(
                &fake,
                "usr/bin/qemu-system-x86_64",
                &format!("echo '{qemu}'"),
            );
            program(&fake, "usr/sbin/libvirtd", &format!("echo '{libvirt}'"));
            assert_eq!(verdicts(), expected, "{qemu}");
        }
    }

    #[test]
    fn newer_programs_than_the_least_will_do() {
        let fake = Fake::new("later");
        let advice = || all(&fake.host()).map(|check| check.advice);
        assert_eq!(
            advice()[0],
            ["install QEMU 8.1 or later, unless another program runs the VMs"]
        );
        for (path, version) in [
            ("usr/bin/qemu-system-x86_64", "8.0.2"),
            ("usr/sbin/libvirtd", "8.5.0"),
        ] {
            program(&fake, path, &format!("echo '{version}'"));
        }
        assert_eq!(
            advice(),
            [
                ["install QEMU 8.1 or later"],
                ["install libvirt 8.6 or later, better 10.0 or later"]
            ]
        );
        program(&fake, "usr/sbin/libvirtd", "echo 9.5.0");
        assert!(advice()[1][0].starts_with("install libvirt 10.0 or later, or give VMs"));
    }

    #[test]
    fn programs_that_do_not_say_their_version_are_no_old_ones() {
        let fake = Fake::new("silent");
        for (does, says) in [
            (
                "exec yes '11.1.3'",
                "--version: it printed more than 16384 bytes",
            ),
            (
                "echo 11.1.3; exit 4",
                "--version: it ended with exit status: 4",
            ),
            ("printf 'a\\033b\\n'", "--version says \"a\u{fffd}b\""),
        ] {
            program(&fake, "usr/bin/qemu-system-x86_64", does);
            let check = qemu(&fake.host());
            assert_eq!(check.verdict, Warning, "{check:?}");
            assert!(check.found.contains(says), "{check:?}");
        }
    }
}
