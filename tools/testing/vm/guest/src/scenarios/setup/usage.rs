// SPDX-License-Identifier: GPL-2.0

//! VFs that somebody uses: a process, or the host itself.

use super::{
    super::tool::command::json,
    doctor::{
        check,
        doctor, //
    },
    refuses,
    Site,
    OURS, //
};
use crate::{
    hca,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    net::Ipv4Addr, //
};
use vfio_mig::{
    device::Device,
    host::{
        plan::{
            Mode,
            Plan,
            Told, //
        },
        Host, //
    },
    sysfs, //
};

/// Nobody loses a VF that is open.
pub fn in_use(site: &Site) -> Result<()> {
    let pf = site.pf();
    let vfs = site.vfs()?;
    let vf = vfs[0].to_string();
    let device = Device::open(vfs[0])?;
    let words = format!("{vf}: in use by ");
    refuses(
        site,
        &["bind", &vf, "--driver", "mlx5_vfio_pci", "--force"],
        &words,
    )?;
    refuses(site, &["unbind", &vfs[1].to_string(), &vf], &words)?;
    refuses(site, &["setup", &pf, "--undo", "--force"], &words)?;
    refuses(site, &["hwtest", &vf, "--yes"], &words)?;
    refuses(
        site,
        &["setup", &pf, "--vfs", "1", "--driver", OURS, "--force"],
        &words,
    )?;
    let (report, _) = doctor(&[&vf, "--open"])?;
    let text = report.to_string();
    ensure!(text.contains("in use by"), "{text}");
    // It was not opened, which would have failed.
    check(&report, &format!("{vf} migratable"), "warning")?;
    // The tool relies on this for users that /proc does not show.
    let group = format!("/dev/vfio/{}", sysfs::iommu_group(vfs[0])?);
    let open = || fs::File::options().read(true).write(true).open(&group);
    let err = open().err().context("the group of an open device opens")?;
    ensure!(err.raw_os_error() == Some(libc::EBUSY), "{err}");
    drop(device);
    open().context(group.clone())?;
    Ok(())
}

/// The kernel takes a VF from its driver when nobody has it open. It is said who has.
pub fn waited_for(site: &Site) -> Result<()> {
    let vf = site.vfs()?[0];
    let mut device = Some(Device::open(vf)?);
    let mut said = Vec::new();
    let mut tell = |told: Told<'_>| {
        if let Told::Waiting(why) = told {
            said.push(why.to_string());
            device.take();
        }
        Ok(())
    };
    let host = Host::this();
    let mut plan = Plan::new(&host, Mode::Do, &mut tell);
    let released = plan.release(vf);
    plan.end(released)?;
    let words = format!("until nobody has {vf} open: this process has {vf} open; end that");
    ensure!(said.len() == 1 && said[0].contains(&words), "{said:?}");
    ensure!(host.driver_of(vf).is_none());
    json(&["--json", "bind", &vf.to_string(), "--driver", OURS])?;
    Ok(())
}

/// The host uses a VF itself, with an address.
pub fn of_the_host(site: &Site) -> Result<()> {
    let vf = site.vfs()?[1];
    let name = vf.to_string();
    let interface = hca::interface(vf)?;
    let address = Ipv4Addr::new(10, 6, 0, 1);
    sys::set_address(&interface, address)?;
    let words = format!("{interface} has the address {address}; end that first, or say --force");
    refuses(site, &["bind", &name, "--driver", OURS], &words)?;
    refuses(site, &["setup", &site.pf(), "--undo"], &words)?;
    let (report, status) = doctor(&[&name])?;
    check(&report, &format!("{name} driver"), "missing")?;
    ensure!(status == Some(1), "{status:?}");
    let report = json(&["--json", "bind", &name, "--driver", OURS, "--force"])?;
    ensure!(sysfs::driver(vf)? == OURS, "{report}");
    Ok(())
}
