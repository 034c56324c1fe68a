// SPDX-License-Identifier: GPL-2.0

//! Which driver has a VF.

use super::{
    driver_dir,
    pci_dir,
    plan::{
        Change,
        Plan, //
    },
    problem::Problem,
    sriov::{
        Kind,
        VARIANTS, //
    },
    usage::Force,
    Host, //
};
use crate::{
    bdf::Bdf,
    error::Error, //
};

/// Has the PCI core look for the driver of a function.
const PROBE: &str = "/sys/bus/pci/drivers_probe";

/// The drivers that can migrate and are loaded.
fn loaded_variants(host: &Host) -> Vec<&'static str> {
    let all = VARIANTS.into_iter();
    all.filter(|driver| host.has_driver(driver)).collect()
}

/// The driver that VFs are to have: the one that was named, if it is one of VFIO's, or else the only
/// loaded one that can migrate. Which of two is better, only the administrator knows.
pub fn choose_driver(host: &Host, named: Option<&str>) -> Result<String, Problem> {
    let variants = loaded_variants(host);
    if let Some(driver) = named {
        let is_name = !driver.is_empty() && !driver.starts_with('.') && !driver.contains('/');
        let driver = driver.to_string();
        return match is_name && host.has_driver(&driver) {
            true if host.is_vfio_driver(&driver) => Ok(driver),
            true => Err(Problem::NotOfVfio {
                driver,
                vfio: host.vfio_drivers(),
            }),
            false => Err(Problem::NoDriver { driver, variants }),
        };
    }
    match variants[..] {
        [] => Err(Problem::NoVariant),
        [driver] => Ok(driver.to_string()),
        _ => Err(Problem::BothVariants),
    }
}

/// Fails if a function is no VF of a ConnectX.
pub fn require_vf(host: &Host, function: Bdf) -> Result<(), Problem> {
    match host.connectx(function)? {
        Kind::Vf(_) => Ok(()),
        Kind::Pf => Err(Problem::NotAVf {
            function,
            vfs: host.vfs(function),
        }),
    }
}

/// Has a VF name the only driver for it, or none.
fn set_override(plan: &mut Plan<'_>, vf: Bdf, driver: Option<&str>) -> Result<(), Error> {
    let change =
        |name: Option<&str>| Change::of_function(vf, "driver_override", name.unwrap_or_default());
    let before = plan.host.override_of(vf);
    match before.as_deref() == driver {
        true => Ok(()),
        false => plan.change(&change(driver), Some(change(before.as_deref()))),
    }
}

/// Fails if the driver has not taken a VF, or is not one for VFIO.
fn check_taken(host: &Host, vf: Bdf, driver: &str) -> Result<(), Problem> {
    let now = host.driver_of(vf);
    if now.as_deref() != Some(driver) {
        return Err(Problem::NotTaken {
            vf,
            driver: driver.to_string(),
            now,
            group: host.iommu_group_of(vf).is_some(),
        });
    }
    match host.exists(pci_dir(vf).join("vfio-dev")) {
        true => Ok(()),
        false => Err(Problem::NotVfio {
            vf,
            driver: driver.to_string(),
            variants: loaded_variants(host),
        }),
    }
}

/// Gives a VF to a driver, by way of its `driver_override`. The caller has checked that the VF is
/// free.
pub(super) fn give(plan: &mut Plan<'_>, vf: Bdf, driver: &str) -> Result<(), Error> {
    let is_bound = plan.driver_of(vf).as_deref() == Some(driver);
    if !is_bound {
        plan.release(vf)?;
    }
    set_override(plan, vf, Some(driver))?;
    if is_bound {
        return Ok(check_taken(plan.host, vf, driver)?);
    }
    plan.change(&Change::write(PROBE, vf), None)?;
    if plan.only_shows() {
        return Ok(());
    }
    if let Some(now) = plan.host.driver_of(vf) {
        plan.undo_later(Change::write(driver_dir(&now).join("unbind"), vf));
    }
    Ok(check_taken(plan.host, vf, driver)?)
}

/// Gives VFs to a driver. Nothing is changed if one of them is used, or is no VF.
pub fn bind(plan: &mut Plan<'_>, vfs: &[Bdf], driver: &str, force: Force) -> Result<(), Error> {
    for vf in vfs {
        require_vf(plan.host, *vf)?;
        if plan.host.driver_of(*vf).as_deref() != Some(driver) {
            plan.host.check_free(*vf, force)?;
        }
    }
    vfs.iter().try_for_each(|vf| give(plan, *vf, driver))
}

/// Takes VFs from their VFIO driver, and lets the kernel do with them what it does without
/// `driver_override`.
pub fn unbind(plan: &mut Plan<'_>, vfs: &[Bdf]) -> Result<(), Error> {
    for vf in vfs {
        require_vf(plan.host, *vf)?;
        let driver = plan.host.driver_of(*vf);
        let is_vfio = plan.host.exists(pci_dir(*vf).join("vfio-dev"));
        if !is_vfio && (driver.is_some() || plan.host.override_of(*vf).is_none()) {
            return Err(Problem::NothingToUndo { vf: *vf, driver }.into());
        }
        plan.host.check_free(*vf, Force::No)?;
    }
    for vf in vfs {
        plan.release(*vf)?;
        set_override(plan, *vf, None)?;
        // The kernel would do nothing.
        if plan
            .host
            .pf_of(*vf)
            .is_some_and(|pf| plan.host.autoprobe(pf))
        {
            plan.change(&Change::write(PROBE, vf), None)?;
        }
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

    const VF: &str = "0000:01:00.2";
    const DEVICES: &str = "/sys/bus/pci/devices";
    const DRIVERS: &str = "/sys/bus/pci/drivers";

    fn vf() -> Bdf {
        VF.parse().unwrap()
    }

    fn shown_bind(fake: &Fake) -> Vec<String> {
        let (lines, result) = planned(fake, Mode::Show, |plan| {
            bind(plan, &[vf()], "mlx5_vfio_pci_rust", Force::No)
        });
        result.unwrap();
        lines
    }

    #[test]
    fn a_vf_is_given_to_a_driver_by_name() {
        let fake = Fake::new("bind");
        let names = format!("echo mlx5_vfio_pci_rust > {DEVICES}/{VF}/driver_override");
        let probe = format!("echo {VF} > /sys/bus/pci/drivers_probe");
        assert_eq!(shown_bind(&fake), [names.clone(), probe.clone()]);
        fake.bind(VF, "mlx5_core");
        let release = format!("echo {VF} > {DRIVERS}/mlx5_core/unbind");
        assert_eq!(shown_bind(&fake), [release, names.clone(), probe]);
        // Only shown.
        let path = format!("sys/bus/pci/devices/{VF}/driver_override");
        assert_eq!(fake.read(&path), "(null)\n");
        fake.bind(VF, "mlx5_vfio_pci_rust");
        assert_eq!(shown_bind(&fake), [names]);
        fake.write(&path, "mlx5_vfio_pci_rust\n");
        assert!(shown_bind(&fake).is_empty());
    }

    #[test]
    fn what_has_failed_is_undone() {
        let fake = Fake::new("undone");
        fake.bind(VF, "vfio-pci");
        fake.write(
            &format!("sys/bus/pci/devices/{VF}/driver_override"),
            "vfio-pci\n",
        );
        // No kernel is behind these files: the driver stays what it is.
        let (lines, result) = planned(&fake, Mode::Do, |plan| {
            bind(plan, &[vf()], "mlx5_vfio_pci_rust", Force::No)
        });
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("mlx5_vfio_pci_rust did not take it, which is now bound to vfio-pci"),
            "{text}"
        );
        let last: Vec<&str> = lines
            .iter()
            .rev()
            .take(2)
            .rev()
            .map(String::as_str)
            .collect();
        assert_eq!(
            last,
            [
                format!("echo vfio-pci > {DEVICES}/{VF}/driver_override"),
                format!("echo {VF} > {DRIVERS}/vfio-pci/bind"),
            ]
        );
        let path = format!("sys/bus/pci/devices/{VF}/driver_override");
        assert_eq!(fake.read(&path), "vfio-pci\n");
    }

    #[test]
    fn the_kernel_has_its_way_again_after_unbind() {
        let fake = Fake::new("unbind");
        fake.bind(VF, "mlx5_vfio_pci_rust");
        let path = format!("sys/bus/pci/devices/{VF}/driver_override");
        fake.write(&path, "mlx5_vfio_pci_rust\n");
        let mut expected = vec![
            format!("echo {VF} > {DRIVERS}/mlx5_vfio_pci_rust/unbind"),
            format!("echo > {DEVICES}/{VF}/driver_override"),
            format!("echo {VF} > /sys/bus/pci/drivers_probe"),
        ];
        let (lines, result) = planned(&fake, Mode::Do, |plan| unbind(plan, &[vf()]));
        result.unwrap();
        assert_eq!(lines, expected);
        assert_eq!(fake.read(&path), "\n");
        let autoprobe = "sys/bus/pci/devices/0000:01:00.0/sriov_drivers_autoprobe";
        fake.write(autoprobe, "0\n");
        fake.write(&path, "mlx5_vfio_pci_rust\n");
        expected.pop();
        let (lines, result) = planned(&fake, Mode::Show, |plan| unbind(plan, &[vf()]));
        result.unwrap();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_wrong_function_or_driver_is_refused_with_what_is_right() {
        let fake = Fake::new("refused");
        let refused = |function: &str| {
            let function = function.parse().unwrap();
            let (lines, result) = planned(&fake, Mode::Do, |plan| {
                bind(plan, &[vf(), function], "vfio-pci", Force::No)
            });
            assert!(lines.is_empty(), "{lines:?}");
            result.unwrap_err().to_string()
        };
        assert!(refused("01:00.0").contains("not a VF; its VFs: 0000:01:00.2, 0000:01:00.3"));
        assert!(refused("02:00.0").contains("no such device; PFs of this host: 0000:01:00.0"));
        fake.bind("0000:01:00.3", "mlx5_vfio_pci_rust");
        fake.opens("qemu", 9, "/dev/vfio/8");
        assert!(refused("01:00.3").contains("in use by qemu (process 9)"));
        let (_, result) = planned(&fake, Mode::Do, |plan| unbind(plan, &[vf()]));
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("bound to no driver, and names no other"),
            "{text}"
        );
        for name in ["mlx4_vfio", "../drivers/vfio-pci", "", ".."] {
            let text = choose_driver(&fake.host(), Some(name))
                .unwrap_err()
                .to_string();
            assert!(
                text.contains("able to migrate: mlx5_vfio_pci_rust"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_driver_that_would_use_a_vf_itself_is_refused() {
        let fake = Fake::new("nvme");
        fake.load("nvme");
        for driver in ["nvme", "mlx5_core"] {
            let text = choose_driver(&fake.host(), Some(driver))
                .unwrap_err()
                .to_string();
            let words = [
                format!("{driver} is not a VFIO driver"),
                "loaded: mlx5_vfio_pci_rust, vfio-pci".to_string(),
            ];
            assert!(words.iter().all(|words| text.contains(words)), "{text}");
        }
    }

    #[test]
    fn nobody_guesses_which_of_two_drivers_is_meant() {
        let fake = Fake::new("guess");
        let host = fake.host();
        assert_eq!(choose_driver(&host, None).unwrap(), "mlx5_vfio_pci_rust");
        fake.load("mlx5_vfio_pci");
        let text = choose_driver(&host, None).unwrap_err().to_string();
        assert!(text.contains("--driver"), "{text}");
        for driver in VARIANTS.into_iter().chain(["vfio-pci"]) {
            assert_eq!(choose_driver(&host, Some(driver)).unwrap(), driver);
        }
        for driver in VARIANTS {
            fake.remove(&format!("sys/bus/pci/drivers/{driver}"));
        }
        let text = choose_driver(&host, None).unwrap_err().to_string();
        assert!(text.contains("modprobe mlx5_vfio_pci"), "{text}");
    }
}
