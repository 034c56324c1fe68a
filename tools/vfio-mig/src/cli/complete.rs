// SPDX-License-Identifier: GPL-2.0

//! `completions`: what a shell offers. The script of a shell asks the tool itself, with
//! [`VAR`] set, so it offers the devices that there are at that time.

use super::{
    command,
    out, //
};
use clap::builder::StyledStr;
use clap_complete::{
    engine::{
        CompletionCandidate,
        PathCompleter,
        ValueCompleter, //
    },
    env::Shells,
    CompleteEnv, //
};
use std::{
    ffi::OsStr,
    io::{
        self,
        Write, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    conformance,
    error::{
        Context,
        Error, //
    },
    host::Host,
    state::State,
    sysfs,
    text, //
};

/// The environment variable with the name of the shell that asks.
pub const VAR: &str = "VFIO_MIG_COMPLETE";

/// The command, and the program that a shell asks.
const TOOL: &str = "vfio-mig";

/// Bash breaks words at the colons of an address, which the script of clap_complete does not
/// join again.
const BASH: &str = include_str!("complete.bash");

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

fn script(shell: &str) -> io::Result<Vec<u8>> {
    if shell == "bash" {
        return Ok(BASH.replace("VAR", VAR).into_bytes());
    }
    let shells = Shells::builtins();
    let shell = shells.completer(shell);
    let shell = shell.ok_or_else(|| io::Error::other("no completions for this shell"))?;
    let mut script = Vec::new();
    shell.write_registration(VAR, TOOL, TOOL, TOOL, &mut script)?;
    Ok(script)
}

/// Prints the script of a shell.
pub fn run(args: &Args) -> Result<(), Error> {
    script(&args.shell.to_string())
        .and_then(|script| out::stdout().write_all(&script))
        .context("standard output")
}

/// Answers a shell that asks what to offer. Returns false if none does.
pub fn answer() -> Result<bool, clap::Error> {
    // Names of files may begin there.
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(VAR)
        .try_complete(std::env::args_os(), here.as_deref())
}

fn candidate(value: impl ToString, about: &str) -> CompletionCandidate {
    let about = StyledStr::from(about.to_string());
    CompletionCandidate::new(value.to_string()).help(Some(about))
}

/// The devices that a VFIO driver is bound to.
pub fn devices() -> Vec<CompletionCandidate> {
    let with_driver = |device| {
        let driver = sysfs::driver(device).ok()?;
        Some(candidate(device, &driver))
    };
    let devices = sysfs::vfio_devices().into_iter();
    devices.filter_map(with_driver).collect()
}

/// Functions of adapters, with their drivers.
fn functions(host: &Host, functions: Vec<Bdf>) -> Vec<CompletionCandidate> {
    let with_driver = |function: Bdf| {
        let driver = host.driver_of(function);
        let driver = driver.as_deref().unwrap_or("no driver");
        candidate(function, &text::shown(driver))
    };
    functions.into_iter().map(with_driver).collect()
}

/// The PFs that `setup` takes.
pub fn pfs() -> Vec<CompletionCandidate> {
    let host = Host::this();
    functions(&host, host.connectx_pfs())
}

/// The VFs that `bind` takes.
pub fn vfs() -> Vec<CompletionCandidate> {
    let host = Host::this();
    functions(&host, host.connectx_vfs())
}

/// What `doctor` takes.
pub fn adapters() -> Vec<CompletionCandidate> {
    let mut all = pfs();
    all.extend(vfs());
    all
}

/// The drivers that VFs can be given to.
pub fn drivers() -> Vec<CompletionCandidate> {
    let drivers = Host::this().vfio_drivers().into_iter();
    drivers
        .map(|name| CompletionCandidate::new(text::shown(&name)))
        .collect()
}

/// The migration states.
pub fn states() -> Vec<CompletionCandidate> {
    let states = State::ALL.iter().filter_map(|state| state.name());
    states.map(CompletionCandidate::new).collect()
}

/// The tests of `test`.
pub fn tests() -> Vec<CompletionCandidate> {
    let tests = conformance::tests().into_iter();
    tests
        .map(|test| match test.source {
            conformance::Source::Uapi(_, about) | conformance::Source::Expected(about) => {
                candidate(test.name, about)
            }
        })
        .collect()
}

/// Where `migrate` can move a state to.
pub struct Destinations;

impl ValueCompleter for Destinations {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let current = current.to_string_lossy();
        if let Some(path) = current.strip_prefix("file:") {
            let paths = PathCompleter::any().complete(OsStr::new(path));
            return paths
                .into_iter()
                .map(|path| path.add_prefix("file:"))
                .collect();
        }
        let mut all = devices();
        all.push(candidate("file:", "a file"));
        all.push(candidate(
            "exec:",
            "a command, such as ssh, with a receiver",
        ));
        all.push(candidate(
            "tcp:",
            "HOST:PORT, where `vfio-mig receive` waits",
        ));
        all.retain(|one| one.get_value().to_string_lossy().starts_with(&*current));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use clap_complete::{
        ArgValueCandidates,
        ArgValueCompleter, //
    };

    fn values(candidates: Vec<CompletionCandidate>) -> Vec<String> {
        let value = |one: &CompletionCandidate| one.get_value().to_string_lossy().into_owned();
        candidates.iter().map(value).collect()
    }

    #[test]
    fn each_shell_has_a_script_that_asks_the_tool() {
        for shell in clap_complete::Shell::value_variants() {
            let script = String::from_utf8(script(&shell.to_string()).unwrap()).unwrap();
            assert!(script.contains(VAR) && script.contains(TOOL), "{shell}");
        }
    }

    #[test]
    fn each_device_and_driver_is_offered() {
        let devices = ["DEVICE", "PF", "VF", "SOURCE", "DESTINATION", "SECOND"];
        let mut offers = 0;
        for command in command().get_subcommands() {
            for arg in command.get_arguments() {
                let is_driver = arg.get_long() == Some("driver");
                let names = arg.get_value_names().unwrap_or_default();
                let is_device = names.iter().any(|name| devices.contains(&name.as_str()));
                if is_driver || is_device {
                    let has = arg.get::<ArgValueCandidates>().is_some()
                        || arg.get::<ArgValueCompleter>().is_some();
                    assert!(has, "{} {}", command.get_name(), arg.get_id());
                    offers += 1;
                }
            }
        }
        assert!(offers > 15, "{offers}");
    }

    #[test]
    fn states_and_tests_are_offered() {
        assert!(values(states()).contains(&"PRE_COPY_P2P".to_string()));
        assert!(values(super::tests()).contains(&"feature.stop_copy".to_string()));
    }

    #[test]
    fn a_destination_may_be_a_file() {
        let dir = std::env::temp_dir().join(format!("vfio-mig-offered-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("state"), "").unwrap();
        let offer = |text: &str| values(Destinations.complete(OsStr::new(text)));
        assert_eq!(offer("f"), ["file:"]);
        assert!(offer("").contains(&"tcp:".to_string()));
        let begun = format!("file:{}/st", dir.display());
        assert_eq!(offer(&begun), [format!("{begun}ate")]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
