// SPDX-License-Identifier: GPL-2.0

//! Examples of the commands, for their help and their manual pages.

use std::fmt::Write;

/// What to do, and the command line that does it.
pub type Example = (&'static str, &'static str);

/// The examples of each command; those of the tool have no name of a command.
const ALL: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("Show the devices that can be given:", "vfio-mig list"),
            ("Show what a device offers:", "vfio-mig info 01:00.4"),
            (
                "Move the state of a device to another one:",
                "vfio-mig migrate 01:00.4 01:00.5",
            ),
            ("Test its driver:", "vfio-mig test 01:00.4 01:00.5"),
        ],
    ),
    (
        "list",
        &[
            ("Show the devices of this host:", "vfio-mig list"),
            (
                "Print their addresses only:",
                "vfio-mig --json list | jq -r '.result.devices[].device'",
            ),
        ],
    ),
    (
        "info",
        &[
            ("Show what a device offers:", "vfio-mig info 01:00.4"),
            (
                "Print the bytes that its state has now:",
                "vfio-mig --json info 01:00.4 | jq .result.data_size",
            ),
        ],
    ),
    (
        "state",
        &[
            ("Show the state of a device:", "vfio-mig state 01:00.4"),
            (
                "Stop it, begin to save it, and have it run again:",
                "vfio-mig state 01:00.4 STOP STOP_COPY RUNNING",
            ),
        ],
    ),
    (
        "save",
        &[
            (
                "Save a state to a file:",
                "vfio-mig save 01:00.4 /tmp/state",
            ),
            (
                "Save it, compressed:",
                "vfio-mig save 01:00.4 - | zstd > /tmp/state.zst",
            ),
        ],
    ),
    (
        "load",
        &[
            (
                "Load a state from a file:",
                "vfio-mig load 01:00.5 /tmp/state",
            ),
            (
                "Load one that is compressed:",
                "zstd -dc /tmp/state.zst | vfio-mig load 01:00.5 -",
            ),
        ],
    ),
    (
        "migrate",
        &[
            (
                "Move a state to another device of this host:",
                "vfio-mig migrate 01:00.4 01:00.5",
            ),
            (
                "Move most of it while the source runs:",
                "vfio-mig migrate 01:00.4 01:00.5 --precopy",
            ),
            (
                "Keep the state in a file, and look at it:",
                "vfio-mig migrate 01:00.4 file:/tmp/state",
            ),
            (
                "Move it to a device of the host `dst`, by ssh:",
                "vfio-mig migrate 01:00.4 'exec:ssh dst vfio-mig receive 01:00.5 --listen -'",
            ),
        ],
    ),
    (
        "receive",
        &[
            (
                "Wait for a state that a process of this host sends:",
                "vfio-mig receive 01:00.5",
            ),
            (
                "Receive a state on the host `dst`, by ssh from the source's host:",
                "vfio-mig migrate 01:00.4 'exec:ssh dst vfio-mig receive 01:00.5 --listen -'",
            ),
        ],
    ),
    (
        "watch",
        &[
            ("Look every second until Ctrl-C:", "vfio-mig watch 01:00.4"),
            (
                "Look ten times in a second, and do not read the stream:",
                "vfio-mig watch 01:00.4 --interval 0.1 --count 10 --keep",
            ),
        ],
    ),
    (
        "dirty",
        &[
            (
                "See where a device writes to within a second:",
                "vfio-mig dirty 01:00.4",
            ),
            (
                "Have an emulated VF write, and log pages of 64 KiB:",
                "vfio-mig dirty 01:00.4 --page-size 64K --write-pages 100",
            ),
        ],
    ),
    (
        "test",
        &[
            ("Run all tests:", "vfio-mig test 01:00.4 01:00.5"),
            (
                "Run the tests of pre-copy, and those of DMA logging:",
                "vfio-mig test 01:00.4 --only precopy --only logging",
            ),
            ("List the tests:", "vfio-mig test --list"),
        ],
    ),
    (
        "stress",
        &[(
            "Migrate to another device and back, for a minute:",
            "vfio-mig stress 01:00.4 01:00.5 --seconds 60",
        )],
    ),
    (
        "fuzz",
        &[
            (
                "Try 1000 rounds, with other random choices than usual:",
                "vfio-mig fuzz 01:00.4 --rounds 1000 --seed 7",
            ),
            ("Load streams only:", "vfio-mig fuzz 01:00.4 --only streams"),
        ],
    ),
    (
        "completions",
        &[
            (
                "Complete in this shell, which is bash:",
                "source <(vfio-mig completions bash)",
            ),
            (
                "Complete in each zsh:",
                "vfio-mig completions zsh > /usr/share/zsh/site-functions/_vfio-mig",
            ),
        ],
    ),
    (
        "schema",
        &[(
            "Check what the tool prints, with a validator of yours:",
            "vfio-mig schema > vfio-mig.schema.json",
        )],
    ),
    (
        "man",
        &[
            ("Read the manual:", "vfio-mig man | man -l -"),
            (
                "Install a page for each command:",
                "vfio-mig man --out /usr/share/man/man8",
            ),
        ],
    ),
    (
        "doctor",
        &[
            (
                "Say what this host lacks to migrate VFs of its adapters:",
                "vfio-mig doctor",
            ),
            (
                "Compare it with the host that a VM is to go to:",
                "ssh there vfio-mig doctor --json > there; vfio-mig doctor --compare there",
            ),
        ],
    ),
    (
        "setup",
        &[
            (
                "Show how four VFs that can migrate would be made:",
                "vfio-mig setup 01:00.0 --vfs 4 --switchdev --dry-run",
            ),
            (
                "Remove all VFs, with what was set for them:",
                "vfio-mig setup 01:00.0 --undo --switchdev",
            ),
        ],
    ),
    (
        "bind",
        &[
            (
                "Bind two VFs to the driver that can migrate them:",
                "vfio-mig bind 01:00.4 01:00.5",
            ),
            (
                "Bind one to the C driver:",
                "vfio-mig bind 01:00.4 --driver mlx5_vfio_pci",
            ),
        ],
    ),
    ("unbind", &[("Unbind a VF:", "vfio-mig unbind 01:00.4")]),
    (
        "hwtest",
        &[
            (
                "Find out what an adapter does, on two spare VFs of it:",
                "vfio-mig hwtest 01:00.4 01:00.5 --output connectx7",
            ),
            (
                "Do one of the experiments again:",
                "vfio-mig hwtest 01:00.4 01:00.5 --only reset-load",
            ),
        ],
    ),
];

/// The examples of a command, or of the tool.
pub fn of(command: &str) -> &'static [Example] {
    let found = ALL.iter().find(|(name, _)| *name == command);
    found.map_or(&[], |(_, examples)| examples)
}

/// The end of the help of a command, or of the tool: empty if there are no examples.
pub fn help(command: &str) -> String {
    let mut text = String::new();
    for (what, line) in of(command) {
        let heading = if text.is_empty() { "Examples:\n" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{heading}  {what}\n    {line}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        command,
        Cli, //
    };

    #[test]
    fn each_command_has_an_example_of_its_own() {
        for sub in command().get_subcommands() {
            let name = sub.get_name();
            assert!(!of(name).is_empty(), "{name}");
            for (_, line) in of(name) {
                let own = format!("vfio-mig {name}");
                assert!(
                    line.contains(&own) || line.contains("vfio-mig --json "),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn examples_have_right_command_lines() {
        for (_, line) in ALL.iter().flat_map(|(_, examples)| *examples) {
            let (_, from) = line.split_once("vfio-mig ").unwrap();
            let end = from.find([')', '|', '>']).unwrap_or(from.len());
            let words = shlex::split(&format!("vfio-mig {}", &from[..end])).unwrap();
            Cli::parse_and_check(words.iter().map(Into::into).collect()).unwrap();
        }
    }
}
