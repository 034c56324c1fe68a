// SPDX-License-Identifier: GPL-2.0

//! Two hosts: what the source and the destination of a migration must have in common.

use super::{
    report::{
        Adapter,
        Check,
        Report,
        Verdict, //
    },
    versions, //
};
use crate::{
    host::problem::Problem,
    text,
    text_file,
    JSON_VERSION, //
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io,
    path::Path, //
};

/// Reads the report of another host: what `doctor --json` has printed there.
pub fn read(path: &Path) -> Result<Report, Problem> {
    let unread = |source: io::Error| Problem::NoReport {
        path: text::shown_path(path),
        source,
    };
    let wrong = |why: String| unread(io::Error::other(why));
    let no_report = |why: serde_json::Error| wrong(format!("not a report: {why}"));
    let text = text_file::read(path).map_err(unread)?;
    let mut value: Value = serde_json::from_str(&text).map_err(no_report)?;
    match value["version"].as_u64() {
        Some(version) if version == u64::from(JSON_VERSION) => (),
        Some(version) => {
            return Err(wrong(format!(
                "a report of version {version}, and this tool reads version {JSON_VERSION}"
            )))
        }
        None => return Err(wrong("not a report: it has no version".to_string())),
    }
    if let Some(command) = value["command"].as_str().filter(|name| *name != "doctor") {
        return Err(wrong(format!(
            "not a report: that is of `vfio-mig {command}`"
        )));
    }
    if let Some(message) = value["error"]["message"].as_str() {
        return Err(wrong(format!(
            "no report: the doctor has failed: {message}"
        )));
    }
    serde_json::from_value(value["result"].take()).map_err(no_report)
}

/// What must be the same of an adapter.
fn fields(adapter: &Adapter) -> [(&'static str, Option<&str>); 3] {
    [
        ("device id", adapter.device.as_deref()),
        ("PSID", adapter.psid.as_deref()),
        ("firmware", adapter.firmware.as_deref()),
    ]
}

/// What differs between two adapters so that firmware may refuse the other one's state.
fn difference(here: &Adapter, there: &Adapter) -> Option<String> {
    let mut both = fields(here).into_iter().zip(fields(there));
    let ((field, here), (_, there)) = both.find(|(here, there)| here != there)?;
    let shown = |value: Option<&str>| value.unwrap_or("unknown").to_string();
    Some(format!(
        "{field} is {} here, and {} there",
        shown(here),
        shown(there)
    ))
}

/// Compares an adapter with those of the other host.
fn adapter(here: &Adapter, there: &[Adapter]) -> Check {
    let name = format!("{} there", here.pf);
    let same = there.iter().find(|there| difference(here, there).is_none());
    if let Some(same) = same {
        let unknown: Vec<&str> = fields(same)
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(field, _)| *field)
            .collect();
        return match unknown[..] {
            [] => Check::ok(
                name,
                format!("{} is the same, with the same firmware", same.pf),
            ),
            _ => {
                let unknown = unknown.join(" and ");
                let found = format!("{}: neither host knows its {unknown}", same.pf);
                Check::warning(name, found).say("compare what devlink dev info prints on both")
            }
        };
    }
    match there {
        [] => Check::missing(name, "the other host has no PF of a ConnectX"),
        [there, ..] => {
            let found = difference(here, there).unwrap_or_default();
            Check::missing(name, format!("{}: {found}", there.pf))
                .say("use cards of one model (PSID), and install one version of firmware on both")
        }
    }
}

/// The numbers of MSI-X vectors that the VFs of an adapter have.
fn vectors(adapter: &Adapter) -> BTreeSet<u16> {
    adapter
        .vfs
        .iter()
        .filter_map(|vf| vf.msix_vectors)
        .collect()
}

/// Compares the VFs of two adapters of one kind. `None` if that is not known of both.
fn vfs(here: &Adapter, there: &Adapter) -> Option<Check> {
    let (ours, theirs) = (vectors(here), vectors(there));
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let name = format!("{} VFs there", here.pf);
    let shown = |numbers: &BTreeSet<u16>| {
        let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
        numbers.join(" or ")
    };
    if ours == theirs {
        let found = format!(
            "of {} have as many MSI-X vectors, {}",
            there.pf,
            shown(&ours)
        );
        return Some(Check::ok(name, found));
    }
    let found = format!(
        "{} MSI-X vectors here, and {} on {}: QEMU refuses a VF with another number",
        shown(&ours),
        shown(&theirs),
        there.pf
    );
    let check = match ours.is_disjoint(&theirs) {
        true => Check::missing(name, found),
        false => Check::warning(name, found),
    };
    Some(check.say(
        "mlx5_core shares them among the VFs of a PF: make as many VFs on both hosts, with the \
         same settings of the firmware",
    ))
}

/// Compares a host with the other one's report.
pub fn checks(here: &Report, there: &Report) -> Vec<Check> {
    let host = match there.host.as_str() {
        "" => "the other host",
        host => host,
    };
    let missing: Vec<&str> = there
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Missing)
        .map(|check| check.name.as_str())
        .collect();
    let mut checks = vec![match missing.is_empty() {
        true => Check::ok("other host", format!("nothing is missing on {host}")),
        false => {
            let found = format!("missing on {host}: {}", missing.join(", "));
            Check::missing("other host", found).say("run vfio-mig doctor there")
        }
    }];
    for here in &here.adapters {
        checks.push(adapter(here, &there.adapters));
        let same = |there: &&Adapter| difference(here, there).is_none();
        let all = there.adapters.iter().filter(same);
        // One of several may do.
        let compared = all.filter_map(|there| vfs(here, there));
        checks.extend(compared.min_by_key(|check| check.verdict));
    }
    let version = |report: &Report| versions::find(report.qemu.as_deref()?);
    if let (Some(ours), Some(theirs)) = (version(here), version(there)) {
        checks.push(match ours == theirs {
            true => Check::ok("QEMU there", theirs),
            false => Check::warning("QEMU there", format!("{theirs}, and {ours} here")).say(
                "QEMU migrates to the same or a later version, with a machine type that both have",
            ),
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor,
        host::fake::{
            of,
            Fake,
            VFS, //
        },
    };
    use serde_json::json;
    use std::fs;

    fn report(fake: &Fake) -> Report {
        doctor::examine(&fake.host(), None, None).unwrap()
    }

    #[test]
    fn two_hosts_must_have_the_same_firmware() {
        let [here, there] = ["here", "there"].map(Fake::new);
        let verdict = |there: &Fake| {
            let all = checks(&report(&here), &report(there));
            all.into_iter()
                .find(|check| check.name == "0000:01:00.0 there")
                .unwrap()
        };
        assert_eq!(verdict(&there).verdict, Verdict::Ok);
        there.devlink(|state| {
            state.info.as_mut().unwrap().firmware = Some("28.43.2026".to_string());
        });
        let found = verdict(&there);
        assert_eq!(found.verdict, Verdict::Missing);
        assert!(
            found
                .found
                .contains("firmware is 28.41.1000 here, and 28.43.2026 there"),
            "{found:?}"
        );
        there.devlink(|state| state.info.as_mut().unwrap().psid = None);
        assert!(verdict(&there).found.contains("unknown there"));
        // What nobody knows is not the same.
        for fake in [&here, &there] {
            fake.devlink(|state| state.info = Err(libc::EOPNOTSUPP));
        }
        let found = verdict(&there);
        assert_eq!(found.verdict, Verdict::Warning);
        assert!(
            found.found.contains("knows its PSID and firmware"),
            "{found:?}"
        );
        there.remove("sys/bus/pci/devices/0000:01:00.0");
        for vf in ["0000:01:00.2", "0000:01:00.3"] {
            there.remove(&format!("sys/bus/pci/devices/{vf}"));
        }
        assert!(verdict(&there).found.contains("no PF of a ConnectX"));
        // What is missing there is missing.
        let all = checks(&report(&here), &report(&there));
        assert!(all[0].found.contains("adapter"), "{:?}", all[0]);
    }

    #[test]
    fn vfs_must_have_as_many_vectors() {
        let [here, there] = ["vectors-here", "vectors-there"].map(Fake::new);
        let give = |fake: &Fake, numbers: [u8; 2]| {
            for (vf, number) in VFS.iter().zip(numbers) {
                let mut space = vec![0; 256];
                space[0x06] = 0x10;
                space[0x34] = 0x40;
                space[0x40..0x43].copy_from_slice(&[0x11, 0, number - 1]);
                fs::write(fake.at(&of(vf, "config")), space).unwrap();
            }
        };
        let compared = || {
            let all = checks(&report(&here), &report(&there));
            all.into_iter()
                .find(|check| check.name == "0000:01:00.0 VFs there")
        };
        assert_eq!(compared(), None);
        give(&here, [12, 12]);
        // As of a tool that does not tell, or not as root.
        assert_eq!(compared(), None);
        for (numbers, verdict, words) in [
            (
                [12, 12],
                Verdict::Ok,
                "of 0000:01:00.0 have as many MSI-X vectors, 12",
            ),
            (
                [24, 24],
                Verdict::Missing,
                "12 MSI-X vectors here, and 24 on 0000:01:00.0: ",
            ),
            (
                [24, 12],
                Verdict::Warning,
                "12 MSI-X vectors here, and 12 or 24 on",
            ),
        ] {
            give(&there, numbers);
            let check = compared().unwrap();
            assert_eq!(check.verdict, verdict);
            assert!(check.found.contains(words), "{check:?}");
        }
    }

    #[test]
    fn a_report_survives_its_file() {
        let fake = Fake::new("file");
        let report = report(&fake);
        let path = fake.host().at("/report");
        let object = json!({ "version": 1, "command": "doctor", "result": report });
        fs::write(&path, object.to_string()).unwrap();
        assert_eq!(read(&path).unwrap(), report);
        // An older tool told less.
        let older = object
            .to_string()
            .replace("\"msix_vectors\":null", "\"else\":null");
        assert_ne!(older, object.to_string());
        fs::write(&path, older).unwrap();
        assert_eq!(read(&path).unwrap(), report);
        for (text, words) in [
            ("", "not a report"),
            ("[]", "no version"),
            (r#"{"version": 2}"#, "version 2"),
            (r#"{"version": 1}"#, "not a report"),
            (r#"{"version": 1, "error": {}}"#, "not a report"),
            (r#"{"version": 1, "result": {}}"#, "not a report"),
            (
                r#"{"version": 1, "command": "info", "result": {}}"#,
                "not a report: that is of `vfio-mig info`",
            ),
            (
                r#"{"version": 1, "command": "doctor", "error": {"message": "no VF"}}"#,
                "the doctor has failed: no VF",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let err = read(&path).unwrap_err().to_string();
            assert!(
                err.contains(words) && err.contains("doctor --json"),
                "{err}"
            );
        }
        // Without an end.
        let err = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(err.contains("more than 16777216 bytes"), "{err}");
        let err = read(Path::new("/a\x1b[2J\nb")).unwrap_err().to_string();
        assert!(!err.contains(['\n', '\x1b']), "{err:?}");
        let err = read(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(err.errno(), Some(libc::ENOENT));
        let words = "/nonexistent: No such file or directory (ENOENT); make one there";
        assert!(err.to_string().starts_with(words), "{err}");
    }
}
