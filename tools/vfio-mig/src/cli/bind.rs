// SPDX-License-Identifier: GPL-2.0

//! `bind` and `unbind`: which driver has a VF.

use super::{
    changes::Changes,
    complete, //
};
use clap_complete::ArgValueCandidates;
use vfio_mig::{
    bdf::Bdf,
    error::Error,
    host::{
        binding,
        usage::Force, //
    },
};

/// Give VFs to a driver that can migrate them.
///
/// Each step is printed before it is done, as a line of a shell. If one fails, those before it
/// are undone. Nothing is done if a process has one of the VFs open, or if the interface of one
/// has an address or a bridge.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The VFs.
    #[arg(required = true, value_name = "VF", add = ArgValueCandidates::new(complete::vfs))]
    vfs: Vec<Bdf>,
    /// The driver, which must be one of VFIO's; by default the loaded one of those that can
    /// migrate.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::drivers))]
    driver: Option<String>,
    /// Also take VFs whose interface has an address or a bridge, which are then lost.
    #[arg(long)]
    force: bool,
    /// Only print the steps.
    #[arg(long)]
    dry_run: bool,
}

/// Take VFs from their VFIO driver, and let the kernel choose again.
///
/// The VFs then name no driver. mlx5_core gets them if the PF lets drivers have its VFs
/// (`sriov_drivers_autoprobe`), as without this tool. Each step is printed before it is done.
#[derive(clap::Args, Debug)]
pub struct UnbindArgs {
    /// The VFs.
    #[arg(required = true, value_name = "VF", add = ArgValueCandidates::new(complete::devices))]
    vfs: Vec<Bdf>,
    /// Only print the steps.
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Checks what depends on several arguments.
    pub fn check(&self) -> Result<(), String> {
        super::check_each_once(&self.vfs)
    }
}

impl UnbindArgs {
    /// Checks what depends on several arguments.
    pub fn check(&self) -> Result<(), String> {
        super::check_each_once(&self.vfs)
    }
}

pub fn bind(args: &Args, json: bool) -> Result<(), Error> {
    let force = if args.force { Force::Yes } else { Force::No };
    Changes::new(args.dry_run, json).make(|plan| {
        let driver = binding::choose_driver(plan.host, args.driver.as_deref())?;
        binding::bind(plan, &args.vfs, &driver, force)?;
        Ok(args.vfs.clone())
    })
}

pub fn unbind(args: &UnbindArgs, json: bool) -> Result<(), Error> {
    Changes::new(args.dry_run, json).make(|plan| {
        binding::unbind(plan, &args.vfs)?;
        Ok(args.vfs.clone())
    })
}
