// SPDX-License-Identifier: GPL-2.0

use super::{
    super::{
        fake::{
            of,
            pf,
            planned,
            refusal,
            Fake,
            PF,
            VFS, //
        },
        plan::{
            Mode,
            Told, //
        },
    },
    *, //
};

const PROBE: &str = "/sys/bus/pci/drivers_probe";

const WANTED: Wanted<'_> = Wanted {
    vfs: 2,
    switchdev: false,
    driver: None,
    force: Force::No,
};

fn without_vfs(name: &str) -> Fake {
    let fake = Fake::new(name);
    fake.remove_vfs();
    fake
}

fn given(vf: &str) -> [String; 2] {
    [
        format!("echo mlx5_vfio_pci_rust > {}", of(vf, "driver_override")),
        format!("echo {vf} > {PROBE}"),
    ]
}

#[test]
fn vfs_are_shown_before_they_exist() {
    let fake = without_vfs("future");
    let (lines, vfs) = planned(&fake, Mode::Show, |plan| setup(plan, pf(), &WANTED));
    let mut expected = vec![
        format!("echo 0 > {}", of(PF, "sriov_drivers_autoprobe")),
        format!("echo 2 > {}", of(PF, "sriov_numvfs")),
    ];
    expected.extend(given(VFS[0]));
    expected.extend(given(VFS[1]));
    expected.push(format!("echo 1 > {}", of(PF, "sriov_drivers_autoprobe")));
    assert_eq!(lines, expected);
    assert_eq!(vfs.unwrap().len(), 2);
    assert_eq!(fake.read(&of(PF, "sriov_drivers_autoprobe")), "1\n");
}

#[test]
fn vfs_that_are_there_are_taken_and_made_migratable() {
    let fake = Fake::new("switchdev");
    fake.write(&of(PF, "sriov_drivers_autoprobe"), "0\n");
    fake.bind(VFS[1], "mlx5_core");
    fake.devlink(|state| state.ports[0].migratable = Some(true));
    let wanted = Wanted {
        switchdev: true,
        ..WANTED
    };
    let (lines, vfs) = planned(&fake, Mode::Show, |plan| setup(plan, pf(), &wanted));
    vfs.unwrap();
    let devlink: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("devlink"))
        .collect();
    // The ports come with the mode.
    assert_eq!(
        devlink,
        [
            "devlink dev eswitch set pci/0000:01:00.0 mode switchdev",
            "devlink port function set pci/0000:01:00.0/PORT_OF_VF_0 migratable enable",
            "devlink port function set pci/0000:01:00.0/PORT_OF_VF_1 migratable enable",
        ]
    );
    fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
    let (lines, vfs) = planned(&fake, Mode::Show, |plan| setup(plan, pf(), &WANTED));
    vfs.unwrap();
    let mut expected = vec![
        "echo 0000:01:00.3 > /sys/bus/pci/drivers/mlx5_core/unbind".to_string(),
        "devlink port function set pci/0000:01:00.0/2 migratable enable".to_string(),
    ];
    expected.extend(given(VFS[0]));
    expected.extend(given(VFS[1]));
    assert_eq!(lines, expected);
}

#[test]
fn what_has_failed_is_undone() {
    let fake = without_vfs("failed");
    fake.devlink(|state| state.mode_fails = Some(libc::EINVAL));
    let wanted = Wanted {
        switchdev: true,
        ..WANTED
    };
    let (lines, result) = planned(&fake, Mode::Do, |plan| setup(plan, pf(), &wanted));
    let text = refusal(result);
    assert!(text.starts_with("`devlink dev eswitch set"), "{text}");
    assert!(
        text.contains("Invalid argument") && text.contains("dmesg"),
        "{text}"
    );
    let undone = [
        format!("echo 0 > {}", of(PF, "sriov_numvfs")),
        format!("echo 1 > {}", of(PF, "sriov_drivers_autoprobe")),
    ];
    assert!(lines.ends_with(&undone), "{lines:?}");
    assert_eq!(fake.read(&of(PF, "sriov_numvfs")), "0\n");
    assert_eq!(fake.read(&of(PF, "sriov_drivers_autoprobe")), "1\n");
}

#[test]
fn vfs_are_made_migratable_if_that_is_asked_for() {
    let fake = Fake::new("asked");
    fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
    let host = fake.host();
    let mut lines = Vec::new();
    // The mode is not told twice.
    let mut tell = |told: Told<'_>| {
        fake.devlink(|state| state.mode = Err(libc::EIO));
        if let Told::Step(line) = told {
            lines.push(line.to_string());
        }
        Ok(())
    };
    let wanted = Wanted {
        switchdev: true,
        ..WANTED
    };
    let mut plan = Plan::new(&host, Mode::Show, &mut tell);
    let result = setup(&mut plan, pf(), &wanted);
    plan.end(result).unwrap();
    let made = lines
        .iter()
        .filter(|line| line.ends_with("migratable enable"));
    assert_eq!(made.count(), 2, "{lines:?}");
}

#[test]
fn vfs_that_do_not_come_are_a_failure() {
    // No kernel is behind these files.
    let fake = without_vfs("none");
    let autoprobe = of(PF, "sriov_drivers_autoprobe");
    for probes in ["1\n", "0\n"] {
        fake.write(&autoprobe, probes);
        let (_, result) = planned(&fake, Mode::Do, |plan| setup(plan, pf(), &WANTED));
        let text = refusal(result);
        assert!(text.contains("0 VFs now, and not 2"), "{text}");
        assert_eq!(fake.read(&of(PF, "sriov_numvfs")), "0\n");
        assert_eq!(fake.read(&autoprobe), probes);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let fake = Fake::new("impossible");
    let refused = |function: &str, wanted: &Wanted<'_>| {
        let function = function.parse().unwrap();
        let (lines, result) = planned(&fake, Mode::Do, |plan| setup(plan, function, wanted));
        assert!(lines.is_empty(), "{lines:?}");
        refusal(result)
    };
    let many = Wanted { vfs: 9, ..WANTED };
    let text = refused("01:00.0", &many);
    assert!(text.contains("9 VFs are more than its 8"), "{text}");
    let text = refused("01:00.2", &WANTED);
    assert!(text.contains("a VF; give its PF, 0000:01:00.0"), "{text}");
    fake.set_addresses("eth0", &["192.0.2.1"]);
    fake.folder(&of(PF, "net/eth0"));
    let switchdev = Wanted {
        switchdev: true,
        ..WANTED
    };
    let text = refused("01:00.0", &switchdev);
    assert!(text.contains("eth0 has the address 192.0.2.1"), "{text}");
    fake.devlink(|state| state.mode = Err(libc::EOPNOTSUPP));
    let text = refused("01:00.0", &switchdev);
    assert!(text.starts_with("`devlink dev eswitch show"), "{text}");
    fake.bind(VFS[1], "vfio-pci");
    fake.opens("qemu", 3, "/dev/vfio/8");
    let forced = Wanted {
        force: Force::Yes,
        ..WANTED
    };
    let text = refused("01:00.0", &forced);
    assert!(text.contains("0000:01:00.3: in use by qemu"), "{text}");
    let (lines, result) = planned(&fake, Mode::Do, |plan| undo(plan, pf(), false, Force::Yes));
    assert!(lines.is_empty() && result.is_err(), "{lines:?}");
    fake.closes(3);
    fake.bind(PF, "vfio-pci");
    let text = refused("01:00.0", &WANTED);
    assert!(text.contains("only mlx5_core makes VFs"), "{text}");
    fake.bind(PF, "mlx5_core");
    fake.write(&of(PF, "sriov_totalvfs"), "0\n");
    let text = refused("01:00.0", &WANTED);
    assert!(
        text.contains("mstconfig -d 0000:01:00.0 set SRIOV_EN=1"),
        "{text}"
    );
}

#[test]
fn undoing_removes_the_vfs_and_the_mode_if_asked() {
    let fake = Fake::new("undo");
    fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
    let none = format!("echo 0 > {}", of(PF, "sriov_numvfs"));
    let legacy = "devlink dev eswitch set pci/0000:01:00.0 mode legacy".to_string();
    for (asked, expected) in [(false, vec![none.clone()]), (true, vec![none, legacy])] {
        let (mut lines, result) =
            planned(&fake, Mode::Show, |plan| undo(plan, pf(), asked, Force::No));
        result.unwrap();
        lines.retain(|line| !line.starts_with("# "));
        assert_eq!(lines, expected);
    }
}

#[test]
fn representors_are_not_taken_from_a_bridge() {
    let fake = Fake::new("bridged");
    fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
    fake.link("/sys/class/net/eth0_1/master", "../br0");
    let wanted = |vfs, force| Wanted {
        vfs,
        force,
        ..WANTED
    };
    let set_up = |wanted| planned(&fake, Mode::Show, |plan| setup(plan, pf(), &wanted));
    let undone = |force| planned(&fake, Mode::Show, |plan| undo(plan, pf(), false, force));
    let words = "eth0_1, the representor of VF 1, is a port of br0; end that first, or say --force";
    let (lines, result) = set_up(wanted(1, Force::No));
    let text = refusal(result);
    assert!(lines.is_empty() && text.ends_with(words), "{text}");
    let (lines, result) = undone(Force::No);
    let text = refusal(result);
    assert!(lines.is_empty() && text.ends_with(words), "{text}");
    set_up(wanted(1, Force::Yes)).1.unwrap();
    undone(Force::Yes).1.unwrap();
    // They stay.
    set_up(wanted(2, Force::No)).1.unwrap();
    // There are none.
    fake.devlink(|state| state.ports_fail = Some(libc::EIO));
    fake.remove_vfs();
    set_up(wanted(1, Force::No)).1.unwrap();
    undone(Force::No).1.unwrap();
}

#[test]
fn what_undoing_does_not_bring_back_is_said_before() {
    let fake = Fake::new("lost");
    fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
    let wanted = Wanted { vfs: 1, ..WANTED };
    let (lines, _) = planned(&fake, Mode::Show, |plan| setup(plan, pf(), &wanted));
    let none = format!("echo 0 > {}", of(PF, "sriov_numvfs"));
    let before = |lines: &[String]| {
        let step = lines.iter().position(|line| *line == none).unwrap();
        lines[..step].last().cloned().unwrap_or_default()
    };
    let words = "2 are made again, without the drivers, driver_override, migratable";
    let note = before(&lines);
    assert!(note.starts_with("# ") && note.contains(words), "{lines:?}");
    let undone = |legacy| {
        planned(&fake, Mode::Show, |plan| {
            undo(plan, pf(), legacy, Force::No)
        })
    };
    assert!(before(&undone(true).0).contains(words));
    // No step is later.
    assert_eq!(undone(false).0, [none.clone()]);
}

#[test]
fn vfs_that_cannot_be_shown_are_counted() {
    let fake = without_vfs("unknown");
    fake.remove(&of(PF, "sriov_stride"));
    let (lines, vfs) = planned(&fake, Mode::Show, |plan| setup(plan, pf(), &WANTED));
    assert!(vfs.unwrap().is_empty());
    let words = "# 2 of the 2 VFs are left out of what follows: sriov_offset and sriov_stride";
    assert!(
        lines.iter().any(|line| line.starts_with(words)),
        "{lines:?}"
    );
}
