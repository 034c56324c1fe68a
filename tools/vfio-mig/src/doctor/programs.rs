// SPDX-License-Identifier: GPL-2.0

//! QEMU and libvirt.

use super::{
    report::Check,
    versions, //
};
use crate::host::Host;
use std::process::{
    Command,
    Stdio, //
};

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

/// The first line that one of these programs prints about its version, and the program.
fn version(host: &Host, programs: &[&str]) -> Option<(String, String)> {
    let program = programs.iter().find(|program| host.exists(program))?;
    let mut command = Command::new(host.at(program));
    let output = command.arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default().trim().to_string();
    Some((program.to_string(), line))
}

fn qemu(host: &Host) -> Check {
    const NAME: &str = "QEMU";
    let least = versions::shown(versions::QEMU);
    let Some((program, line)) = version(host, QEMU) else {
        let found = format!("none of {}", QEMU.join(", "));
        let advice = format!("install QEMU {least}, unless another program runs the VMs");
        return Check::warning(NAME, found).say(advice);
    };
    match versions::find(&line) {
        Some(version) if version.is_at_least(versions::QEMU) => {
            Check::ok(NAME, format!("{version}, {program}"))
        }
        Some(version) => {
            let found = format!("{version}: too old to migrate VFIO devices");
            Check::missing(NAME, found).say(format!("install QEMU {least}"))
        }
        None => Check::warning(NAME, format!("{program} --version says \"{line}\"")),
    }
}

/// VMs can do without it.
fn libvirt(host: &Host) -> Check {
    const NAME: &str = "libvirt";
    let Some((program, line)) = version(host, LIBVIRT) else {
        return Check::ok(NAME, "none, and none is needed");
    };
    let [least, drivers] = [versions::LIBVIRT, versions::LIBVIRT_DRIVERS].map(versions::shown);
    match versions::find(&line) {
        Some(version) if version.is_at_least(versions::LIBVIRT_DRIVERS) => {
            Check::ok(NAME, format!("{version}, {program}"))
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
            Check::missing(NAME, found).say(format!("install libvirt {least}, or better {drivers}"))
        }
        None => Check::warning(NAME, format!("{program} --version says \"{line}\"")),
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

    fn program(fake: &Fake, path: &str, says: &str) {
        fake.write(path, &format!("#!/bin/sh\necho '{says}'\n"));
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
            program(&fake, "usr/bin/qemu-system-x86_64", qemu);
            program(&fake, "usr/sbin/libvirtd", libvirt);
            assert_eq!(verdicts(), expected, "{qemu}");
        }
    }
}
