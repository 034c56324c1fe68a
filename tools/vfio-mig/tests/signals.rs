// SPDX-License-Identifier: GPL-2.0

//! What a caught signal does: in a process of its own, which has just one thread, so a
//! signal interrupts what is tested and nothing else.

use nix::{
    sys::signal::{
        kill,
        raise,
        Signal, //
    },
    unistd::{
        mkfifo,
        Pid, //
    },
};
use std::{
    env, fs,
    io::{
        BufRead,
        BufReader,
        Read,
        Write, //
    },
    os::{
        fd::AsFd,
        unix::{
            net::UnixStream,
            process::ExitStatusExt, //
        },
    },
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Command,
        ExitCode,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    bounded::{
        self,
        Bounds, //
    },
    conformance::{
        runner,
        Expectations,
        Site,
        Source,
        Test, //
    },
    error::Error,
    host::{
        devlink,
        plan::{
            Change,
            Mode,
            Plan,
            Told, //
        },
        Host, //
    },
    interrupt, stream, uapi,
    wait::{
        self,
        Deadline,
        Signals, //
    },
};

/// Time in which a blocked call must be ended by a signal, which is checked for every
/// second.
const SOON: Duration = Duration::from_secs(10);
/// Time after which the process counts as hung, and the test fails.
const HUNG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("--apart") => apart(),
        Some("--conformance") => conformance(),
        Some("--plan") => plan(),
        Some("--slow") => slow_plan(),
        Some("--bounded") => bounded(),
        _ => {
            let tests: [(&str, fn()); 5] = [
                ("a_tool_hears_of_signals", a_tool_hears_of_signals),
                ("a_test_ends_with_its_runner", a_test_ends_with_its_runner),
                ("a_program_ends_with_the_tool", a_program_ends_with_the_tool),
                ("a_signal_undoes_changes", || succeeds("--plan")),
                ("a_signal_waits_for_a_slow_step", || succeeds("--slow")),
            ];
            for (name, test) in tests {
                // A panic ends the process, with a status.
                test();
                println!("test {name} ... ok");
            }
        }
    }
    ExitCode::SUCCESS
}

/// This program again, to do something else. No signal is ignored, as SIGINT is in whatever a
/// shell starts with `&`, but that of `ignoring`, as nohup does it.
fn again(what: &str, ignoring: Option<&str>) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal");
    if let Some(signal) = ignoring {
        command.arg(format!("--ignore-signal={signal}"));
    }
    command.arg(env::current_exe().expect("a path")).arg(what);
    command
}

fn a_tool_hears_of_signals() {
    let mut child = again("--apart", Some("HUP")).spawn().expect("a child");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if begin.elapsed() > HUNG {
            child.kill().expect("a child");
        }
        thread::sleep(Duration::from_millis(20));
    };
    // The second SIGTERM has ended it, after all that came before it.
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}");
}

/// Does this in a process of its own.
fn succeeds(what: &str) {
    let status = again(what, None).status().expect("a child");
    assert!(status.success(), "{what}: {status}");
}

/// A host without devices, whose files are in a folder of this test.
fn host() -> Host {
    let name = format!("vfio-mig-signals-{}", std::process::id());
    let root = env::temp_dir().join(name);
    fs::create_dir_all(&root).expect("a folder");
    Host::new(
        &root,
        Box::new(devlink::Kernel),
        Box::new(|_| Vec::new()),
        Box::new(|_| Ok(())),
    )
}

/// Changes three files, of which a signal leaves none changed.
fn plan() {
    let files = ["/one", "/two", "/three"];
    let host = host();
    for file in files {
        fs::write(host.at(file), "old\n").expect("a file");
    }
    let mut lines = 0;
    let mut tell = |_: Told<'_>| {
        lines += 1;
        if lines == 2 {
            raise(Signal::SIGTERM).expect("a signal");
        }
        Ok(())
    };
    let mut plan = Plan::new(&host, Mode::Do, &mut tell);
    let changed = files.iter().try_for_each(|file| {
        let undo = Change::write(file, "old");
        plan.change(&Change::write(file, "new"), Some(undo))
    });
    let ended = plan.end(changed);
    assert!(matches!(ended, Err(Error::Interrupted { signal }) if signal == libc::SIGTERM));
    for file in files {
        assert_eq!(host.read(file).as_deref(), Some("old"), "{file}");
    }
    // Two changes, and both undone.
    assert_eq!(lines, 4);
    fs::remove_dir_all(host.at("/")).expect("a folder");
}

/// A step that the kernel is slow with is not given up, and it is said that this is so.
fn slow_plan() {
    let host = host();
    let fifo = host.at("/slow");
    mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let mut said = Vec::new();
    let mut reader = None;
    let mut tell = |told: Told<'_>| {
        let Told::Waiting(why) = told else {
            return Ok(());
        };
        said.push(why.to_string());
        match said.len() {
            1 => raise(Signal::SIGTERM).expect("a signal"),
            _ => {
                let fifo = fifo.clone();
                reader = Some(thread::spawn(move || fs::read_to_string(fifo)));
            }
        }
        Ok(())
    };
    let mut plan = Plan::new(&host, Mode::Do, &mut tell);
    let changed = ["/slow", "/next"]
        .iter()
        .try_for_each(|file| plan.change(&Change::write(file, "new"), None));
    let ended = plan.end(changed);
    assert!(matches!(ended, Err(Error::Interrupted { signal }) if signal == libc::SIGTERM));
    assert!(
        said.len() == 2 && said[1].contains("a signal has come"),
        "{said:?}"
    );
    let read = reader.expect("a reader").join().expect("a thread");
    assert_eq!(read.expect("a step"), "new\n");
    fs::remove_dir_all(host.at("/")).expect("a folder");
}

/// Runs a conformance test that hangs.
fn conformance() {
    let test = Test::new("hangs", Source::Expected("nothing"), |_| {
        println!("it hangs");
        thread::sleep(HUNG);
        Ok(())
    });
    let site = Site {
        device: "ffff:ff:1f.7".parse().expect("an address"),
        second: None,
    };
    let known = Expectations::default();
    runner::run(&[test], &site, &known, 2 * HUNG, |_| Ok(())).expect("a run");
}

fn a_test_ends_with_its_runner() {
    let mut runner = again("--conformance", None)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut said = BufReader::new(runner.stdout.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "it hangs\n");
    runner.kill().expect("a child");
    runner.wait().expect("a child");
    // The test has the other end of the pipe open, too.
    let begin = Instant::now();
    said.read_line(&mut line).expect("the end");
    assert!(begin.elapsed() < SOON, "the test outlives its runner");
}

/// The file that tells the processes of a program.
fn processes_of(tool: u32) -> PathBuf {
    env::temp_dir().join(format!("vfio-mig-program-{tool}"))
}

/// Runs a program that hangs, and ends when a signal comes.
fn bounded() {
    interrupt::catch().expect("signals");
    let processes = processes_of(std::process::id());
    let script = format!("sleep 1000 & echo $$ $! > '{}'; wait", processes.display());
    let bounds = Bounds {
        time: 2 * HUNG,
        bytes: 1,
    };
    let said = bounded::output(Path::new("/bin/sh"), &["-c", &script], bounds);
    assert_eq!(said, Err("interrupted by SIGINT".to_string()));
    assert!(matches!(interrupt::check(), Err(Error::Interrupted { .. })));
}

/// Whether a process has ended, if only its parent does not know yet.
fn has_ended(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

fn waits_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn a_program_ends_with_the_tool() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut tool = again("--bounded", None).spawn().expect("a child");
        let file = processes_of(tool.id());
        let ids = || fs::read_to_string(&file).unwrap_or_default();
        waits_until("no program", || ids().ends_with('\n'));
        let ids = ids();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        kill(Pid::from_raw(tool.id() as i32), signal).expect("a signal");
        let status = tool.wait().expect("a child");
        // A tool that is killed takes what it has started along, and nothing else.
        let (with_it, left) = match signal {
            Signal::SIGINT => (2, &ids[2..]),
            _ => (1, &ids[1..]),
        };
        assert_eq!(status.success(), signal == Signal::SIGINT, "{status}");
        waits_until("it outlives the tool", || {
            ids[..with_it].iter().all(|id| has_ended(id))
        });
        for id in left {
            let id = id.parse().expect("a number");
            kill(Pid::from_raw(id), Signal::SIGKILL).expect("a process");
        }
        fs::remove_file(file).expect("a file");
    }
}

/// A socket that takes no more, and its other end.
fn full() -> (UnixStream, UnixStream) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    uapi::set_nonblocking(ours.as_fd(), true).expect("a socket");
    while ours.write(&[0; 1 << 16]).is_ok() {}
    uapi::set_nonblocking(ours.as_fd(), false).expect("a socket");
    (ours, theirs)
}

fn apart() {
    interrupt::catch().expect("signals");
    interrupt::catch().expect("signals, a second time");
    raise(Signal::SIGHUP).expect("a signal");
    interrupt::check().expect("an ignored signal stays ignored");

    let (mut ours, _theirs) = full();
    raise(Signal::SIGTERM).expect("a signal");
    // Nobody has looked for the signal before this blocks.
    let begin = Instant::now();
    let written = stream::print(&mut ours, "x");
    let is_sigterm =
        |result| matches!(result, Err(Error::Interrupted { signal }) if signal == libc::SIGTERM);
    assert!(is_sigterm(written) && begin.elapsed() < SOON);

    // Once it has heard of the signal, a peer that does not read does not keep it from ending.
    assert!(is_sigterm(stream::print(&mut ours, "why\n")));
    let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    stream::print(&mut ours, "why\n").expect("a line");
    let mut line = [0; 4];
    theirs.read_exact(&mut line).expect("a line");

    raise(Signal::SIGINT).expect("a signal");
    assert!(is_sigterm(interrupt::check()), "the first one counts");
    let begin = Instant::now();
    assert!(wait::sleep(HUNG).is_err() && begin.elapsed() < SOON);

    // A signal does not end a step that undoes something.
    let time = Duration::from_millis(1500);
    let late = || wait::ready(&mut [], Deadline::after(time), Signals::Ignore);
    let begin = Instant::now();
    assert!(!interrupt::undo(late).expect("poll"));
    assert!(begin.elapsed() >= time);
    raise(Signal::SIGTERM).expect("a signal");
}
