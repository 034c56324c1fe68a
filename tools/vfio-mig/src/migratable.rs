// SPDX-License-Identifier: GPL-2.0

//! Why a driver offers no migration of a device. The uAPI has only ENOTTY for that, so this is
//! what sysfs shows of the conditions that drivers have.

use crate::text;
use std::{
    fs,
    path::Path, //
};

/// The driver of a PF that drivers of ConnectX VFs ask.
const PF_DRIVER: &str = "mlx5_core";

/// What sysfs shows of a device.
#[derive(Clone, Default, Debug)]
pub struct Facts {
    /// Its driver.
    driver: String,
    /// Its PF, if it is a VF.
    pf: Option<Pf>,
}

/// The physical function of a VF.
#[derive(Clone, Default, Debug)]
struct Pf {
    name: String,
    driver: Option<String>,
    /// Number of the VF, from 0.
    vf: Option<usize>,
}

fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(text::shown(&target.file_name()?.to_string_lossy()))
}

impl Facts {
    /// Looks at the folder of a device in sysfs.
    pub fn of(driver: &str, dir: &Path) -> Self {
        let pf = dir.join("physfn");
        let own = fs::canonicalize(dir).ok();
        let pf = link_name(&pf).map(|name| Pf {
            name,
            driver: link_name(&pf.join("driver")),
            vf: (0..)
                .map(|n| pf.join(format!("virtfn{n}")))
                .take_while(|vf| vf.exists())
                .position(|vf| own.is_some() && fs::canonicalize(vf).ok() == own),
        });
        Self {
            driver: driver.to_string(),
            pf,
        }
    }

    /// Says which condition is not met, as far as that is known, and what to do.
    pub fn why(&self) -> String {
        let log = "when it was bound, the kernel's log (dmesg) may say why";
        if self.driver == "vfio-pci" {
            return "vfio-pci has no migration; bind the driver for devices of this kind: for a \
                    ConnectX VF, `vfio-mig bind` does it"
                .to_string();
        }
        if !self.driver.starts_with("mlx5_vfio_pci") {
            return format!("its conditions are those of {}; {log}", self.driver);
        }
        let Some(pf) = &self.pf else {
            return "it is no VF; only VFs can be migrated".to_string();
        };
        let name = &pf.name;
        match pf.driver.as_deref() {
            Some(PF_DRIVER) => {
                let vf = pf.vf.map_or("N".to_string(), |n| n.to_string());
                format!(
                    "migration was not enabled for it, or firmware cannot migrate; unbind it, run \
                     `devlink port function set PORT migratable enable`, and bind it again; PORT \
                     is that of pci/{name} with \"vfnum {vf}\" in `devlink port show`, and if that \
                     has no \"migratable\", set VF_MIGRATION_MODE in the adapter's firmware; {log}"
                )
            }
            Some(driver) => format!(
                "its PF, {name}, is bound to {driver}, and must be bound to {PF_DRIVER} when the \
                 VF is bound"
            ),
            None => format!(
                "its PF, {name}, has no driver, and must be bound to {PF_DRIVER} when the VF is \
                 bound"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder like that of a VF with number 1, whose PF has this driver.
    fn why(name: &str, driver: &str, pf_driver: Option<&str>) -> String {
        let top = std::env::temp_dir().join(format!("vfio-mig-{name}-{}", std::process::id()));
        let (pf, vfs) = (top.join("0000:01:00.0"), ["0000:01:00.1", "0000:01:00.2"]);
        fs::create_dir_all(&pf).unwrap();
        for (n, vf) in vfs.iter().enumerate() {
            fs::create_dir_all(top.join(vf)).unwrap();
            symlink(&pf, top.join(vf).join("physfn")).unwrap();
            symlink(top.join(vf), pf.join(format!("virtfn{n}"))).unwrap();
        }
        if let Some(driver) = pf_driver {
            symlink(top.join(driver), pf.join("driver")).unwrap();
        }
        let why = Facts::of(driver, &top.join(vfs[1])).why();
        fs::remove_dir_all(&top).unwrap();
        why
    }

    #[test]
    fn the_condition_that_is_not_met_is_named() {
        let ours = "mlx5_vfio_pci_rust";
        let text = why("enabled", ours, Some("mlx5_core"));
        assert!(text.contains("migratable enable"), "{text}");
        assert!(text.contains("pci/0000:01:00.0 with \"vfnum 1\""), "{text}");
        let text = why("other-pf", ours, Some("vfio-pci"));
        assert!(
            text.contains("0000:01:00.0, is bound to vfio-pci, and must"),
            "{text}"
        );
        let text = why("no-pf-driver", "mlx5_vfio_pci", None);
        assert!(
            text.contains("has no driver, and must be bound to mlx5_core"),
            "{text}"
        );
        let text = Facts {
            driver: ours.to_string(),
            pf: None,
        }
        .why();
        assert!(text.contains("it is no VF"), "{text}");
    }

    #[test]
    fn other_drivers_have_other_conditions() {
        let text = why("plain", "vfio-pci", Some("mlx5_core"));
        assert!(text.starts_with("vfio-pci has no migration"), "{text}");
        let text = why("other", "xe-vfio-pci", Some("xe"));
        assert!(
            text.contains("those of xe-vfio-pci") && text.contains("dmesg"),
            "{text}"
        );
    }
}
