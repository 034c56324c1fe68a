// SPDX-License-Identifier: GPL-2.0

//! What the tool says of a wrong command line, before it opens anything.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{
        Command,
        Output,
        Stdio, //
    },
};

fn tool(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

/// A device that no machine has, so the tool ends with 1 as soon as it looks for the device.
const ABSENT: &str = "ffff:ff:1f.7";
/// Another one.
const OTHER: &str = "ffff:ff:1f.6";

/// Runs the tool, which must fail with `status`. Returns what it says.
fn fails(args: &[&str], status: i32) -> String {
    let output = tool(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    said
}

#[test]
fn with_json_a_usage_error_is_an_object_too() {
    for (args, message) in [
        (
            &["--json", "info", "nonsense"][..],
            "invalid value 'nonsense' for '<DEVICE>': not a PCI address, such as 0000:01:00.2 or \
             01:00.2, nor the UUID of a mediated device",
        ),
        (
            &["info", "--json"],
            "the following required arguments were not provided: <DEVICE>",
        ),
    ] {
        let said = fails(args, 2);
        assert!(said.starts_with("error: "), "{said}");
        let object: serde_json::Value = serde_json::from_slice(&tool(args).stdout).unwrap();
        assert_eq!(object["error"]["message"], message, "{args:?}");
        assert_eq!(object["error"]["status"], 2, "{args:?}");
    }
    assert!(tool(&["info", "nonsense"]).stdout.is_empty());
}

#[test]
fn a_usage_error_is_not_written_where_a_state_was_to_be() {
    let args = ["--json", "save", "nonsense", "-"];
    let said = fails(&args, 2);
    assert!(tool(&args).stdout.is_empty());
    let object: serde_json::Value = serde_json::from_str(&said).unwrap();
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("invalid value 'nonsense'"), "{said}");
}

#[test]
fn only_another_device_can_be_migrated_to_twice() {
    for to in ["tcp:127.0.0.1:1", "file:/dev/null"] {
        let both = ["--precopy", "--precopy-info", "both"];
        let mut args = vec!["migrate", ABSENT, to];
        args.extend(both);
        let said = fails(&args, 2);
        assert!(said.contains("needs a device of this host"), "{said}");
    }
    let to_device = ["migrate", ABSENT, OTHER, "--precopy"];
    for version in ["v1", "v2", "both"] {
        let said = fails(&[&to_device[..], &["--precopy-info", version]].concat(), 1);
        assert!(said.contains("no such device"), "{said}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    for (args, message) in [
        (
            &["migrate", ABSENT, "file:/tmp/x", "--through", "/tmp/y"][..],
            "needs a device of this host",
        ),
        (
            &["migrate", ABSENT, "tcp:[::1]:1", "--through", "/tmp/y"],
            "needs a device of this host",
        ),
        (&["migrate", ABSENT, ABSENT], "given twice"),
        (&["test", ABSENT, ABSENT], "given twice"),
        (&["stress", ABSENT, ABSENT], "given twice"),
        (&["bind", ABSENT, OTHER, ABSENT], "given twice"),
        (&["unbind", ABSENT, ABSENT, "--dry-run"], "given twice"),
        (&["hwtest", ABSENT, OTHER, ABSENT, "--yes"], "given twice"),
    ] {
        let said = fails(args, 2);
        assert!(said.contains(message), "{args:?}: {said}");
    }
}

#[test]
fn inputs_are_looked_for_before_the_device() {
    let folder = std::env::temp_dir().join(format!("vfio-mig-corpus-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let path = folder.to_str().unwrap();
    let fuzz = ["fuzz", ABSENT, "--corpus", path];
    let said = fails(&fuzz, 1);
    assert!(said.contains("no such device"), "{said}");
    for (file, contents) in [("requests/damaged", "read 1\n"), ("streams/cut", "")] {
        fs::write(folder.join(file), contents).unwrap();
        let said = fails(&fuzz, 1);
        assert!(said.contains(&format!("{file}: skipped")), "{said}");
        assert!(folder.join(file).exists());
    }
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let said = fails(&fuzz, 1);
    assert!(said.contains(path) && !said.contains(ABSENT), "{said}");
    fs::remove_file(folder).unwrap();
}

#[test]
fn a_file_without_an_end_does_not_take_all_memory() {
    for args in [
        &["test", ABSENT, "--expect", "/dev/zero"][..],
        &["test", "--check-quotes", "/dev/zero"],
        &["doctor", "--compare", "/dev/zero"],
    ] {
        let said = fails(args, 1);
        let words = "/dev/zero: it has more than 16777216 bytes";
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_wrong_number_is_told_what_is_right() {
    let count = "not a whole number from 1 to 4294967295";
    let seconds = "not a number of seconds from 0 to 86400";
    let any = "not a whole number from 0 to 18446744073709551615";
    for (args, message) in [
        (&["watch", ABSENT, "--interval", "-1"][..], seconds),
        (&["watch", ABSENT, "--interval", "-0.5"], seconds),
        (&["watch", ABSENT, "--interval", "soon"], seconds),
        (&["watch", ABSENT, "--count", "-1"], count),
        (&["watch", ABSENT, "--count", "many"], count),
        (&["dirty", ABSENT, "--count", "4294967296"], count),
        (&["dirty", ABSENT, "--write-pages", "-1"], any),
        (&["fuzz", ABSENT, "--seed", "x"], any),
        (
            &["dirty", ABSENT, "--length", "16X"],
            "such as 4096, 16M or 1GiB",
        ),
        (
            &["dirty", ABSENT, "--length", "-1"],
            "such as 4096, 16M or 1GiB",
        ),
        (
            &["dirty", ABSENT, "--iova", "page"],
            "in hexadecimal, such as 0x100000000",
        ),
        (
            &["dirty", ABSENT, "--iova", "-1"],
            "in hexadecimal, such as 0x100000000",
        ),
    ] {
        let said = fails(args, 2);
        let given = args[3];
        assert!(
            said.contains(&format!("invalid value '{given}'")) && said.contains(message),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn devices_are_listed_if_there_are_any() {
    let output = tool(&["list", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let output = tool(&["list"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let listed = listed["result"]["devices"].as_array().unwrap();
    assert_eq!(lines.lines().count(), listed.len());
    assert_eq!(lines.is_empty(), !output.stderr.is_empty());
}

#[test]
fn numbers_have_a_range() {
    for args in [
        &["watch", ABSENT, "--interval", "nan"][..],
        &["watch", ABSENT, "--interval", "inf"],
        &["watch", ABSENT, "--interval=-1"],
        &["watch", ABSENT, "--count", "0"],
        &["dirty", ABSENT, "--interval", "nan"],
        &["dirty", ABSENT, "--interval", "1e300"],
        &["dirty", ABSENT, "--count", "0"],
        &["stress", ABSENT, "--seconds", "0"],
        &["stress", ABSENT, "--count", "0"],
        &["fuzz", ABSENT, "--rounds", "0"],
        &["fuzz", ABSENT, "--first", "18446744073709551615"],
        &["test", ABSENT, "--timeout", "0"],
        &["migrate", ABSENT, OTHER, "--timeout", "0"],
        &["receive", ABSENT, "--timeout", "0"],
    ] {
        let said = fails(args, 2);
        assert!(!said.contains("panic"), "{args:?}: {said}");
    }
    let most = "18446744073709551615";
    for args in [
        &["watch", ABSENT, "--interval", "0", "--count", "4294967295"][..],
        &["dirty", ABSENT, "--interval", "86400", "--count", "1"],
        &["stress", ABSENT, "--seconds", most, "--count", most],
        &["fuzz", ABSENT, "--first", "0", "--rounds", most],
        &["test", ABSENT, "--timeout", most],
        &["migrate", ABSENT, OTHER, "--timeout", most],
        &[
            "receive",
            ABSENT,
            "--listen",
            "127.0.0.1:0",
            "--timeout",
            most,
        ],
    ] {
        let said = fails(args, 1);
        assert!(said.contains("no such device"), "{args:?}: {said}");
    }
}

#[test]
fn destinations_and_hosts_are_looked_at() {
    for (args, message) in [
        (&["migrate", ABSENT, "tcp:localhost"][..], "not HOST:PORT"),
        (&["migrate", ABSENT, "tcp:localhost:0"], "port 0"),
        (&["migrate", ABSENT, "exec:"], "no command after"),
        (&["migrate", ABSENT, "file:"], "no path after"),
        (&["migrate", ABSENT, "/tmp/x"], "begin with \"file:\""),
        (&["receive", ABSENT, "--listen", "foo"], "not HOST:PORT"),
        (
            &["receive", ABSENT, "--listen", "::1:1"],
            "[2001:db8::1]:4444",
        ),
        (&["save", ABSENT, ""], "FILE"),
        (&["state", ABSENT, "nowhere"], "nowhere"),
    ] {
        let said = fails(args, 2);
        assert!(said.contains(message), "{args:?}: {said}");
    }
}

#[test]
fn memory_is_made_of_whole_pages() {
    for (args, option) in [
        (&["--length", "1"][..], "--length"),
        (&["--length", "0"], "--length"),
        (&["--length", "2T"], "--length"),
        (&["--page-size", "0"], "--page-size"),
        (&["--page-size", "1K"], "--page-size"),
        (&["--page-size", "12K"], "--page-size"),
        (&["--page-size", "32M"], "--length"),
        (&["--iova", "0x100000800"], "--iova"),
        (&["--iova", "0xffffffffff000000"], "--iova"),
    ] {
        let said = fails(&[&["dirty", ABSENT], args].concat(), 2);
        assert!(said.contains(option), "{args:?}: {said}");
    }
    for args in [
        &["--length", "4K"][..],
        &["--length", "2M", "--page-size", "2M", "--iova", "0"],
        &["--iova", "0xfffffffffefff000"],
    ] {
        fails(&[&["dirty", ABSENT], args].concat(), 1);
    }
}

#[test]
fn who_listens_to_others_is_warned() {
    for (at, warned) in [
        ("0.0.0.0:0", true),
        ("[::]:0", true),
        ("127.0.0.1:0", false),
        ("127.1.2.3:0", false),
    ] {
        let said = fails(&["receive", ABSENT, "--listen", at], 1);
        let found = said.contains("neither encrypted nor authenticated");
        assert_eq!(found, warned, "{at}: {said}");
    }
}

#[test]
fn a_receiver_that_answers_is_told_that_there_is_no_source() {
    // It takes HELLO for what it is, and says DONE; then it prints what it hears.
    let script = r"head -c 15 > /dev/null; printf '\200\000\000\000\000'; cat >&2";
    let to = format!("exec:sh -c \"{script}\"");
    let said = fails(&["migrate", ABSENT, &to, "--timeout", "1"], 1);
    assert_eq!(said.matches("no such device").count(), 2, "{said}");
}

#[test]
fn a_command_that_stays_is_ended() {
    let script = r"head -c 15 > /dev/null; printf '\200\000\000\000\000'; exec sleep 1000";
    let to = format!("exec:sh -c \"{script}\"");
    let said = fails(&["migrate", ABSENT, &to, "--timeout", "1"], 1);
    let words = "it has not ended 2 s after its input, and gets SIGTERM\n";
    assert_eq!(said.matches(words).count(), 1, "{said}");
}

#[test]
fn a_receiver_without_a_device_says_so() {
    let tool = env!("CARGO_BIN_EXE_vfio-mig");
    let to = format!("exec:{tool} receive {OTHER} --listen -");
    let said = fails(&["migrate", ABSENT, &to], 1);
    // The receiver's own message, and the reason that the sender was given.
    let last = said.lines().last().unwrap();
    assert_eq!(
        said.matches(&format!("{OTHER}: no such device")).count(),
        2,
        "{said}"
    );
    assert!(
        last.starts_with("vfio-mig: ") && last.contains("receive"),
        "{said}"
    );
}

#[test]
fn frames_are_all_that_standard_output_gets() {
    let output = tool(&["--json", "migrate", ABSENT, "-"]);
    assert_eq!(output.stdout, b"\x01\x0a\0\0\0vfio-mig 1");
    let object: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(object["error"]["errno_name"], "ECONNRESET", "{object}");
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(["receive", ABSENT, "--listen", "-"]);
    let output = command.stdin(terminal.slave).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("standard input and output: a terminal"),
        "{said}"
    );
}

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("vfio-mig-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn files_and_hosts_are_opened_before_devices() {
    let dir = folder("outputs");
    let path = dir.to_str().unwrap();
    let file = format!("file:{path}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (args, message) in [
        (&["save", ABSENT, path][..], "Is a directory"),
        (&["load", ABSENT, path], "Is a directory"),
        (&["migrate", ABSENT, &file], "Is a directory"),
        (&["migrate", ABSENT, &file, "--precopy"], "Is a directory"),
        (
            &["migrate", ABSENT, OTHER, "--through", path],
            "not a regular file",
        ),
        (&["migrate", ABSENT, "tcp:127.0.0.1:1"], "connecting to"),
        (
            &["migrate", ABSENT, "exec:/no/such/command"],
            "/no/such/command: ",
        ),
        (
            &["migrate", ABSENT, "exec:false"],
            "false ended with exit status: 1",
        ),
        (
            &["migrate", ABSENT, "exec:sh -c 'exit 3'", "--precopy"],
            "status: 3",
        ),
        (&["migrate", ABSENT, "-"], "closed the connection"),
        (&["receive", ABSENT, "--listen", "-"], "no such device"),
        (&["receive", ABSENT, "--listen", &taken], "listening on"),
        (&["test", OTHER, ABSENT], ABSENT),
        (&["stress", OTHER, ABSENT], ABSENT),
    ] {
        let said = fails(args, 1);
        assert!(said.contains(message), "{args:?}: {said}");
    }
    fs::remove_dir(dir).unwrap();
}

#[test]
fn without_a_device_no_file_is_left() {
    let dir = folder("left");
    let path = format!("{}/state", dir.display());
    let file = format!("file:{path}");
    for args in [
        &["save", ABSENT, &path][..],
        &["migrate", ABSENT, &file],
        &["migrate", ABSENT, OTHER, "--through", &path],
    ] {
        let said = fails(args, 1);
        assert!(said.contains("no such device"), "{args:?}: {said}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{args:?}");
    }
    fs::remove_dir(dir).unwrap();
}

#[test]
fn names_of_tests_are_looked_at() {
    for args in [
        &["test", ABSENT, "--only", "nosuch"][..],
        &["test", "--list", "--only", "nosuch"],
        &["test", "--list", "--only", "feature", "--only", "nosuch"],
    ] {
        let said = fails(args, 2);
        let names = said.contains("'nosuch'") && said.contains("feature, fork");
        assert!(names && !said.contains("os error"), "{args:?}: {said}");
    }
    let listed = tool(&["test", ABSENT, "--list", "--only", "precopy.info"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.starts_with("precopy.info"));
    fails(&["test", ABSENT, "--check-quotes", "/dev/null"], 2);
}

#[test]
fn expectations_name_tests() {
    let dir = folder("expectations");
    let path = dir.join("known.toml");
    for (wrong, right) in [
        ("nosuch", "feature, fork"),
        ("feature.nosuch", "feature.stop_copy"),
    ] {
        let known =
            format!("[[known]]\ntests = ['{wrong}']\nsubject = ''\nobserved = []\ncause = ''\n");
        fs::write(&path, known).unwrap();
        let path = path.to_str().unwrap();
        let said = fails(&["test", ABSENT, "--expect", path], 1);
        let expected = format!("vfio-mig: {path}: there is no test {wrong}; ");
        assert!(
            said.starts_with(&expected) && said.contains(right),
            "{said}"
        );
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn wrong_names_list_the_right_ones() {
    for (args, message) in [
        (
            &["nosuch"][..],
            "commands: list, info, state, save, load, migrate, receive, watch, dirty",
        ),
        (&["migrat", ABSENT], "commands: list, info, "),
        (
            &["watch", ABSENT, "--nosuch"],
            "options of watch: --interval, --count, --keep",
        ),
        (&["--nosuch", "info", ABSENT], "options of info: --json"),
        (&["--nosuch"], "options of vfio-mig: --json"),
        (&["state", ABSENT, "nosuch"], "STOP, RUNNING, STOP_COPY"),
        (
            &[
                "migrate",
                ABSENT,
                OTHER,
                "--precopy",
                "--precopy-info",
                "v3",
            ],
            "v1, v2, both",
        ),
        (&["completions", "csh"], "bash"),
        (
            &["test", ABSENT, "--only", "feature.nosuch"],
            "this group: feature.probe, ",
        ),
    ] {
        let said = fails(args, 2);
        assert!(said.contains(message), "{args:?}: {said}");
        let output = tool(&[&["--json"], args].concat());
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = object["error"]["message"].as_str().unwrap();
        assert!(
            text.contains(message) && !text.contains("Usage"),
            "{args:?}: {text}"
        );
    }
    let said = fails(&["info", ABSENT], 1);
    assert!(said.contains("bound to a VFIO driver"), "{said}");
}

#[test]
fn no_argument_commands_a_terminal() {
    let name = "/nosuch/\x1b[2J\n\u{202e}x";
    let dir = folder("arguments");
    let file = dir.join("toml\x1b[2J\n");
    fs::write(&file, "\x1b[2J\u{9b}").unwrap();
    let toml = file.to_str().unwrap();
    for (args, status) in [
        (&["load", ABSENT, name][..], 1),
        (&["save", ABSENT, name], 1),
        (&["migrate", ABSENT, &format!("file:{name}")], 1),
        (&["migrate", ABSENT, OTHER, "--through", name], 1),
        (&["test", "--check-quotes", name], 1),
        (&["test", ABSENT, "--expect", name], 1),
        (&["test", ABSENT, "--expect", toml], 1),
        (&[name], 2),
        (&["info", name], 2),
        (&["info", ABSENT, name], 2),
        (&["watch", ABSENT, "--interval", name], 2),
        (&["completions", name], 2),
    ] {
        let said = fails(args, status);
        assert!(said.contains("\u{fffd}[2J\u{fffd}"), "{args:?}: {said}");
        let output = tool(&[&["--json"], args].concat());
        let json = String::from_utf8(output.stdout).unwrap();
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(object["error"]["message"].is_string(), "{args:?}: {json}");
        for text in [said, json] {
            let commands = |c| c != '\n' && vfio_mig::text::is_command(c);
            assert!(!text.contains(commands), "{args:?}: {text:?}");
        }
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn fuzz_has_no_round_to_repeat_without_a_device() {
    let said = fails(&["fuzz", ABSENT], 1);
    assert!(
        said.starts_with(&format!("vfio-mig: {ABSENT}: no such device; ")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
