// SPDX-License-Identifier: GPL-2.0

//! Makes the VFs of a PF, and gives them to a driver that can migrate them.

use super::{
    binding::{
        choose_driver,
        give, //
    },
    devlink::EswitchMode,
    plan::{
        Change,
        Plan, //
    },
    problem::Problem,
    sriov::Kind,
    usage::Force,
    Host, //
};
use crate::{
    bdf::Bdf,
    error::Error, //
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Number of VFs.
    pub vfs: u16,
    /// Whether the e-switch is to be in switchdev mode, in which VFs can be made migratable.
    pub switchdev: bool,
    /// The driver of the VFs, or whichever is loaded.
    pub driver: Option<&'a str>,
    /// Whether network configuration may be lost.
    pub force: Force,
}

/// Fails if a function is no PF.
pub fn require_pf(host: &Host, function: Bdf) -> Result<(), Problem> {
    match host.connectx(function)? {
        Kind::Pf => Ok(()),
        Kind::Vf(pf) => Err(Problem::NotAPf { vf: function, pf }),
    }
}

/// Fails if the PF cannot have this many VFs.
fn check_pf(host: &Host, pf: Bdf, wanted: u16) -> Result<(), Problem> {
    require_pf(host, pf)?;
    let driver = host.driver_of(pf);
    if driver.as_deref() != Some("mlx5_core") {
        return Err(Problem::NotMlx5Core { pf, driver });
    }
    let most = host.total_vfs(pf).ok_or(Problem::NoVfs(pf))?;
    match wanted > most {
        true => Err(Problem::TooManyVfs { pf, wanted, most }),
        false => Ok(()),
    }
}

/// The mode of a PF's e-switch.
fn eswitch_mode(host: &Host, pf: Bdf) -> Result<EswitchMode, Problem> {
    let command = format!("devlink dev eswitch show pci/{pf}");
    let mode = host.devlink().eswitch_mode(pf);
    mode.map_err(|source| Problem::step(command, source))
}

/// Changes the number of VFs: by way of 0, since the kernel does not change it otherwise.
fn set_number(plan: &mut Plan<'_>, pf: Bdf, from: usize, to: u16) -> Result<(), Error> {
    let change = |number: usize| Change::of_function(pf, "sriov_numvfs", number);
    if from != 0 {
        plan.change(&change(0), Some(change(from)))?;
    }
    match to {
        0 => Ok(()),
        to => plan.change(&change(to.into()), Some(change(0))),
    }
}

/// The VFs as they are, or as they will be. Fails if there is another number of them: a PF may
/// have been taken out of its slot.
fn vfs(plan: &Plan<'_>, pf: Bdf, wanted: u16) -> Result<Vec<Bdf>, Problem> {
    let host = plan.host;
    let there = host.vfs(pf);
    let number = there.len();
    match number == usize::from(wanted) {
        true => Ok(there),
        false if plan.only_shows() => Ok((0..wanted)
            .filter_map(|vf| host.future_vf(pf, vf))
            .collect()),
        false => Err(Problem::OtherNumber {
            pf,
            wanted,
            there: number,
        }),
    }
}

/// Makes each VF migratable that is not. VFs must have no driver while that is done.
fn set_migratable(plan: &mut Plan<'_>, pf: Bdf, vfs: &[Bdf]) -> Result<(), Error> {
    let ports = plan.host.devlink().vf_ports(pf).unwrap_or_default();
    for (number, vf) in vfs.iter().enumerate() {
        let port = ports.iter().find(|port| port.vf as usize == number);
        if port.and_then(|port| port.migratable) == Some(true) {
            continue;
        }
        plan.release(*vf)?;
        let change = |enable| Change::Migratable { pf, number, enable };
        plan.change(&change(true), Some(change(false)))?;
    }
    Ok(())
}

/// Makes the VFs, migratable if the e-switch lets them, and gives them to the driver. Returns
/// them.
pub fn setup(plan: &mut Plan<'_>, pf: Bdf, wanted: &Wanted<'_>) -> Result<Vec<Bdf>, Error> {
    let host = plan.host;
    check_pf(host, pf, wanted.vfs)?;
    let driver = choose_driver(host, wanted.driver)?;
    let there = host.vfs(pf);
    for vf in &there {
        host.check_free(*vf, wanted.force)?;
    }
    let mode = eswitch_mode(host, pf);
    let switches = match (&mode, wanted.switchdev) {
        (_, false) => false,
        (Ok(mode), true) => *mode != EswitchMode::Switchdev,
        (Err(_), true) => return Err(mode.map(drop).unwrap_err().into()),
    };
    if switches {
        // The PF's interface is set up anew.
        host.check_free(pf, wanted.force)?;
    }
    // No other driver takes a VF that has just been made.
    let autoprobe = |on: u8| Change::of_function(pf, "sriov_drivers_autoprobe", on);
    let probes = host.autoprobe(pf);
    if probes {
        plan.change(&autoprobe(0), Some(autoprobe(1)))?;
    }
    if there.len() != usize::from(wanted.vfs) {
        set_number(plan, pf, there.len(), wanted.vfs)?;
    }
    if switches {
        let change = |mode| Change::Eswitch(pf, mode);
        let back = change(mode.unwrap_or(EswitchMode::Legacy));
        plan.change(&change(EswitchMode::Switchdev), Some(back))?;
    }
    let vfs = vfs(plan, pf, wanted.vfs)?;
    if wanted.switchdev || matches!(eswitch_mode(host, pf), Ok(EswitchMode::Switchdev)) {
        set_migratable(plan, pf, &vfs)?;
    }
    for vf in &vfs {
        give(plan, *vf, &driver)?;
    }
    if probes {
        plan.change(&autoprobe(1), None)?;
    }
    Ok(vfs)
}

/// Removes all VFs of a PF, and with `legacy`, takes its e-switch back to that mode.
pub fn undo(plan: &mut Plan<'_>, pf: Bdf, legacy: bool, force: Force) -> Result<(), Error> {
    let host = plan.host;
    require_pf(host, pf)?;
    let there = host.vfs(pf);
    for vf in &there {
        host.check_free(*vf, force)?;
    }
    let mode = match legacy {
        true => eswitch_mode(host, pf)?,
        false => EswitchMode::Legacy,
    };
    if mode != EswitchMode::Legacy {
        host.check_free(pf, force)?;
    }
    if !there.is_empty() {
        set_number(plan, pf, there.len(), 0)?;
    }
    if mode != EswitchMode::Legacy {
        let change = |mode| Change::Eswitch(pf, mode);
        plan.change(&change(EswitchMode::Legacy), Some(change(mode)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fake::{
                planned,
                Fake, //
            },
            plan::Mode, //
        },
        *, //
    };

    const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";
    const PROBE: &str = "/sys/bus/pci/drivers_probe";

    const WANTED: Wanted<'_> = Wanted {
        vfs: 2,
        switchdev: false,
        driver: None,
        force: Force::No,
    };

    fn pf() -> Bdf {
        "01:00.0".parse().unwrap()
    }

    fn without_vfs(name: &str) -> Fake {
        let fake = Fake::new(name);
        for number in 0..2 {
            fake.remove(&format!("{}/virtfn{number}", &PF[1..]));
        }
        fake
    }

    fn given(vf: &str) -> [String; 2] {
        [
            format!("echo mlx5_vfio_pci_rust > /sys/bus/pci/devices/{vf}/driver_override"),
            format!("echo {vf} > {PROBE}"),
        ]
    }

    #[test]
    fn vfs_are_shown_before_they_exist() {
        let fake = without_vfs("future");
        let (lines, vfs) = planned(&fake, Mode::Show, |plan| setup(plan, pf(), &WANTED));
        let mut expected = vec![
            format!("echo 0 > {PF}/sriov_drivers_autoprobe"),
            format!("echo 2 > {PF}/sriov_numvfs"),
        ];
        expected.extend(given("0000:01:00.2"));
        expected.extend(given("0000:01:00.3"));
        expected.push(format!("echo 1 > {PF}/sriov_drivers_autoprobe"));
        assert_eq!(lines, expected);
        assert_eq!(vfs.unwrap().len(), 2);
        assert_eq!(
            fake.read(&format!("{}/sriov_drivers_autoprobe", &PF[1..])),
            "1\n"
        );
    }

    #[test]
    fn vfs_that_are_there_are_taken_and_made_migratable() {
        let fake = Fake::new("switchdev");
        fake.write(&format!("{}/sriov_drivers_autoprobe", &PF[1..]), "0\n");
        fake.bind("0000:01:00.3", "mlx5_core");
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
        expected.extend(given("0000:01:00.2"));
        expected.extend(given("0000:01:00.3"));
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
        let text = result.unwrap_err().to_string();
        assert!(text.starts_with("`devlink dev eswitch set"), "{text}");
        assert!(
            text.contains("Invalid argument") && text.contains("dmesg"),
            "{text}"
        );
        let undone = [
            format!("echo 0 > {PF}/sriov_numvfs"),
            format!("echo 1 > {PF}/sriov_drivers_autoprobe"),
        ];
        assert!(lines.ends_with(&undone), "{lines:?}");
        assert_eq!(fake.read(&format!("{}/sriov_numvfs", &PF[1..])), "0\n");
        assert_eq!(
            fake.read(&format!("{}/sriov_drivers_autoprobe", &PF[1..])),
            "1\n"
        );
    }

    #[test]
    fn vfs_are_made_migratable_if_that_is_asked_for() {
        let fake = Fake::new("asked");
        fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
        let host = fake.host();
        let mut lines = Vec::new();
        // The mode is not told twice.
        let mut shown = |line: &str| {
            fake.devlink(|state| state.mode = Err(libc::EIO));
            lines.push(line.to_string());
            Ok(())
        };
        let wanted = Wanted {
            switchdev: true,
            ..WANTED
        };
        let mut plan = Plan::new(&host, Mode::Show, &mut shown);
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
        let autoprobe = format!("{}/sriov_drivers_autoprobe", &PF[1..]);
        for probes in ["1\n", "0\n"] {
            fake.write(&autoprobe, probes);
            let (_, result) = planned(&fake, Mode::Do, |plan| setup(plan, pf(), &WANTED));
            let text = result.unwrap_err().to_string();
            assert!(text.contains("0 VFs now, and not 2"), "{text}");
            assert_eq!(fake.read(&format!("{}/sriov_numvfs", &PF[1..])), "0\n");
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
            result.unwrap_err().to_string()
        };
        let many = Wanted { vfs: 9, ..WANTED };
        let text = refused("01:00.0", &many);
        assert!(text.contains("9 VFs are more than its 8"), "{text}");
        let text = refused("01:00.2", &WANTED);
        assert!(text.contains("a VF; give its PF, 0000:01:00.0"), "{text}");
        fake.set_addresses("eth0", &["192.0.2.1"]);
        fake.folder(&format!("{}/net/eth0", &PF[1..]));
        let switchdev = Wanted {
            switchdev: true,
            ..WANTED
        };
        let text = refused("01:00.0", &switchdev);
        assert!(text.contains("eth0 has the address 192.0.2.1"), "{text}");
        fake.devlink(|state| state.mode = Err(libc::EOPNOTSUPP));
        let text = refused("01:00.0", &switchdev);
        assert!(text.starts_with("`devlink dev eswitch show"), "{text}");
        fake.bind("0000:01:00.3", "vfio-pci");
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
        fake.bind("0000:01:00.0", "vfio-pci");
        let text = refused("01:00.0", &WANTED);
        assert!(text.contains("only mlx5_core makes VFs"), "{text}");
        fake.bind("0000:01:00.0", "mlx5_core");
        fake.write(&format!("{}/sriov_totalvfs", &PF[1..]), "0\n");
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
        let none = format!("echo 0 > {PF}/sriov_numvfs");
        let legacy = "devlink dev eswitch set pci/0000:01:00.0 mode legacy".to_string();
        for (asked, expected) in [(false, vec![none.clone()]), (true, vec![none, legacy])] {
            let (lines, result) =
                planned(&fake, Mode::Show, |plan| undo(plan, pf(), asked, Force::No));
            result.unwrap();
            assert_eq!(lines, expected);
        }
    }
}
