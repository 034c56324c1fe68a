// SPDX-License-Identifier: GPL-2.0

//! `setup`: makes VFs, and gives them to a driver that can migrate them.

use super::{
    changes::Changes,
    complete,
    values, //
};
use clap::ArgGroup;
use clap_complete::ArgValueCandidates;
use vfio_mig::{
    bdf::Bdf,
    error::Error,
    host::{
        setup::{
            self,
            Wanted, //
        },
        usage::Force, //
    },
};

/// Make VFs of a PF, and give them to a driver that can migrate them.
///
/// Each step is printed before it is done, as a line of a shell. If one fails, those before it
/// are undone. A PF that has another number of VFs loses those first; if a later step fails, as
/// many are made again, but without the drivers, driver_override, migratable, MAC and VLAN that
/// they had. Nothing is done to a VF that a process has open, or whose interface or representor
/// has an address or a bridge.
#[derive(clap::Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["vfs", "undo"])))]
pub struct Args {
    /// The PF.
    #[arg(value_name = "PF", add = ArgValueCandidates::new(complete::pfs))]
    device: Bdf,
    /// Number of VFs.
    #[arg(long, value_name = "N", value_parser = values::at_least_one::<u16>)]
    vfs: Option<u16>,
    /// Also take the e-switch to switchdev mode, and make the VFs migratable; with --undo, take
    /// it back to legacy mode.
    #[arg(long)]
    switchdev: bool,
    /// Driver of the VFs, which must be one of VFIO's; by default the loaded one of those that can
    /// migrate.
    #[arg(long, value_name = "NAME", conflicts_with = "undo",
          add = ArgValueCandidates::new(complete::drivers))]
    driver: Option<String>,
    /// Remove all VFs of the PF, with their drivers, driver_override, migratable, MAC and VLAN.
    #[arg(long)]
    undo: bool,
    /// Also take VFs whose interface or representor has an address or a bridge, which are then
    /// lost.
    #[arg(long)]
    force: bool,
    /// Only print the steps.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let force = if args.force { Force::Yes } else { Force::No };
    Changes::new(args.dry_run, json).make(|plan| match args.vfs {
        None => setup::undo(plan, args.device, args.switchdev, force).map(|()| Vec::new()),
        Some(vfs) => {
            let wanted = Wanted {
                vfs,
                switchdev: args.switchdev,
                driver: args.driver.as_deref(),
                force,
            };
            setup::setup(plan, args.device, &wanted)
        }
    })
}
