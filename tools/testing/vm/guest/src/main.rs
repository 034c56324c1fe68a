// SPDX-License-Identifier: GPL-2.0

//! Init of the test machine.
//!
//! Boots with `vmtest.scenario=NAME` on the kernel's command line, loads the
//! modules that `/lib/modules.list` names, runs the scenario, reports on the
//! second serial port and turns the machine off. With `vmtest.inner` there, it
//! is that of a machine in the machine.

mod campaign;
mod cgroup;
mod count;
mod events;
mod fault;
mod frames;
mod hca;
mod host;
mod injection;
mod inner;
mod kmsg;
mod leaks;
mod lie;
mod link;
mod net;
mod packet_socket;
mod qemu;
mod qmp;
mod records;
mod reset;
mod scenarios;
mod slot;
mod sys;
mod tap;
mod vf;
mod vf_links;

use anyhow::{
    Context,
    Result, //
};
use std::{
    fs,
    process::ExitCode, //
};
use tap::Results;

const FILE_SYSTEMS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("debugfs", "/sys/kernel/debug"),
];

fn load_modules() -> Result<()> {
    let list = fs::read_to_string("/lib/modules.list").context("/lib/modules.list")?;
    for name in list.lines() {
        let module = name.trim_end_matches(".ko");
        let params = sys::module_parameters(module)?;
        sys::load_module(module, &params).with_context(|| format!("loading {name}"))?;
    }
    Ok(())
}

fn scenario_name() -> Result<String> {
    sys::kernel_parameter("vmtest.scenario")?
        .context("no vmtest.scenario= on the kernel's command line")
}

fn run() -> Result<()> {
    for (kind, at) in FILE_SYSTEMS {
        // Not every kernel has every one.
        let _ = sys::mount(kind, at);
    }
    match sys::kernel_parameter("vmtest.inner")?.as_deref() {
        Some("net") => return net::guest::run(),
        Some(_) => return inner::run(),
        None => (),
    }
    let mut results = Results::new()?;
    results.test("the modules load", |_| load_modules());
    let name = scenario_name()?;
    match scenarios::find(&name) {
        Some(scenario) => {
            // What happens outside of a test must not go unnoticed.
            if let Err(err) = scenario(&mut results) {
                results.test(&format!("scenario {name}"), |_| Err(err));
            }
        }
        None => results.test(&format!("scenario {name}"), |_| {
            anyhow::bail!("there is no such scenario")
        }),
    }
    leaks::check(&mut results);
    results.finish();
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--hold") => scenarios::hold(&args[2..]),
        Some("--user") => scenarios::use_vf(&args[2..]),
        Some("--report") => scenarios::report_for_ever(&args[2..]),
        _ if std::process::id() == 1 => {
            if let Err(err) = run() {
                eprintln!("vm-guest: {err:#}");
            }
            sys::power_off()
        }
        _ => {
            eprintln!("vm-guest is the init of a test machine");
            ExitCode::from(2)
        }
    }
}
