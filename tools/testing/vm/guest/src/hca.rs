// SPDX-License-Identifier: GPL-2.0

//! The emulated HCA, from the PF driver's side.

use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
    str::FromStr, //
};
use vfio_mig::{
    bdf::Bdf,
    host::devlink,
    sysfs, //
};

/// A VFIO driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// The kernel's own, in C.
    C,
    /// This project's.
    Rust,
}

impl Driver {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::C, Self::Rust];

    /// Its name in sysfs.
    pub fn sysfs_name(self) -> &'static str {
        match self {
            Self::C => "mlx5_vfio_pci",
            Self::Rust => "mlx5_vfio_pci_rust",
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Rust => "rust",
        }
    }
}

/// The PF.
pub struct Pf {
    bdf: Bdf,
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, text).with_context(|| format!("writing {text} to {}", path.display()))
}

/// The function that the end of a path is named after.
fn named(path: &Path) -> Result<Bdf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Bdf::from_str(&name)?)
}

/// The functions of the vendor's with a device id, in order.
fn find(device: &str) -> Result<Vec<Bdf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/bus/pci/devices")? {
        let entry = entry?;
        let id = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if (id("vendor").trim(), id("device").trim()) == ("0x15b3", device) {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(Bdf::from_str(&name)?);
        }
    }
    found.sort();
    Ok(found)
}

/// The VFs of a machine that has some, and not their PF.
pub fn lone_vfs() -> Result<Vec<Bdf>> {
    let vfs = find("0x101e")?;
    ensure!(!vfs.is_empty(), "there is no ConnectX VF");
    Ok(vfs)
}

impl Pf {
    /// Finds it.
    pub fn find() -> Result<Self> {
        let found = find("0x101d")?;
        let bdf = *found.first().context("there is no ConnectX PF")?;
        Ok(Self { bdf })
    }

    /// The one with an address.
    pub fn of_address(bdf: Bdf) -> Self {
        Self { bdf }
    }

    /// All of them, where there are several.
    pub fn all() -> Result<Vec<Self>> {
        let found = find("0x101d")?;
        Ok(found.into_iter().map(|bdf| Self { bdf }).collect())
    }

    /// That of a VF.
    pub fn of(vf: Bdf) -> Result<Self> {
        let target = fs::read_link(sysfs::device_dir(vf).join("physfn"))?;
        Ok(Self {
            bdf: named(&target)?,
        })
    }

    /// Its address.
    pub fn address(&self) -> Bdf {
        self.bdf
    }

    /// Where it is in sysfs.
    pub fn dir(&self) -> PathBuf {
        sysfs::device_dir(self.bdf)
    }

    /// Where the port that it is behind is in sysfs.
    pub fn port(&self) -> Result<PathBuf> {
        let dir = fs::canonicalize(self.dir())?;
        Ok(dir.parent().context("the PF is behind no port")?.into())
    }

    /// The driver that it is bound to.
    pub fn driver(&self) -> Result<String> {
        Ok(sysfs::driver(self.bdf)?)
    }

    /// Changes the number of VFs, which no driver takes by itself.
    pub fn set_vfs(&self, count: u16) -> Result<()> {
        write(self.dir().join("sriov_drivers_autoprobe"), "0")?;
        write(self.dir().join("sriov_numvfs"), &count.to_string())
    }

    /// The VFs that there are.
    pub fn vfs(&self) -> Result<Vec<Bdf>> {
        let mut vfs = Vec::new();
        for i in 0.. {
            let Ok(target) = fs::read_link(self.dir().join(format!("virtfn{i}"))) else {
                break;
            };
            vfs.push(named(&target)?);
        }
        Ok(vfs)
    }

    /// Firmware commands that mlx5_core has had answered so far.
    pub fn commands(&self) -> Result<u64> {
        let dir = Path::new("/sys/kernel/debug/mlx5").join(self.bdf.to_string());
        let mut sum = 0;
        for entry in fs::read_dir(dir.join("commands"))? {
            let file = entry?.path().join("n");
            if file.exists() {
                sum += fs::read_to_string(file)?.trim().parse::<u64>()?;
            }
        }
        Ok(sum)
    }

    /// Has mlx5_core tear it down and set it up again. Its VFs stay.
    pub fn reload(&self) -> Result<()> {
        Ok(devlink::reload(self.bdf)?)
    }

    /// Binds it to mlx5_core, or takes it from there.
    pub fn set_bound(&self, bound: bool) -> Result<()> {
        let file = if bound { "bind" } else { "unbind" };
        let path = Path::new("/sys/bus/pci/drivers/mlx5_core").join(file);
        write(path, &self.bdf.to_string())
    }
}

/// The network interface of a function.
pub fn interface(function: Bdf) -> Result<String> {
    let dir = sysfs::device_dir(function).join("net");
    let mut found = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let entry = found.next().context("no interface")??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// Binds a VF to a driver.
pub fn bind(vf: Bdf, driver: Driver) -> Result<()> {
    bind_to(vf, driver.sysfs_name())
}

/// Takes a VF from its driver.
pub fn unbind(vf: Bdf) -> Result<()> {
    write(sysfs::device_dir(vf).join("driver/unbind"), &vf.to_string())
}

/// Binds a VF to a driver of any name.
pub fn bind_to(vf: Bdf, driver: &str) -> Result<()> {
    let dir = sysfs::device_dir(vf);
    if let Ok(bound) = sysfs::driver(vf) {
        if bound == driver {
            return Ok(());
        }
        unbind(vf)?;
    }
    write(dir.join("driver_override"), driver)?;
    write("/sys/bus/pci/drivers_probe", &vf.to_string())?;
    match sysfs::driver(vf) {
        Ok(bound) if bound == driver => Ok(()),
        other => bail!("{vf} is not bound to {driver}: {other:?}"),
    }
}
