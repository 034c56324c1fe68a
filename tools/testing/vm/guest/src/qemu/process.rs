// SPDX-License-Identifier: GPL-2.0

//! A QEMU, from its start to its end.

use super::{
    config::{
        arguments,
        environment,
        Assigned,
        Common,
        Config, //
    },
    trace::{
        Event,
        Trace, //
    },
};
use crate::{
    host::{
        in_root,
        ROOT, //
    },
    inner,
    qmp::Qmp,
    sys,
    tap::Results, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    fs::{
        self,
        File, //
    },
    io::Write,
    os::unix::{
        net::UnixStream,
        process::ExitStatusExt, //
    },
    process::Child,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// Where QEMU's files are, for QEMU.
const DIR: &str = "/dev/shm";
const POLL: Duration = Duration::from_millis(50);
/// Time limit for a command. The first one is answered when QEMU has opened its devices,
/// while another guest works: on a busy host that emulates all of it, more than a minute was
/// seen. The host kills a machine that is silent for two.
const ANSWER: Duration = Duration::from_secs(100);
/// Time between two messages while something is waited for.
const NEWS: Duration = Duration::from_secs(10);
/// Time limit for a step.
pub const TIMEOUT: Duration = Duration::from_secs(180);
const LAST_LINES: usize = 20;
/// Of migrations that have ended.
const ENDS: &[&str] = &["completed", "failed", "cancelled"];

/// A file of a QEMU's, for QEMU.
pub fn file(name: &str, kind: &str) -> String {
    format!("{DIR}/{name}.{kind}")
}

fn our_file(name: &str, kind: &str) -> String {
    format!("{ROOT}{}", file(name, kind))
}

/// For something to happen.
struct Wait {
    begin: Instant,
    news: Instant,
}

impl Wait {
    fn new() -> Self {
        let begin = Instant::now();
        Self { begin, news: begin }
    }

    fn is_longer_than(&self, time: Duration) -> bool {
        self.begin.elapsed() > time
    }

    /// Goes on with it, and says so now and then.
    fn go_on(&mut self, results: &mut Results, what: &str) {
        if self.news.elapsed() > NEWS {
            self.news = Instant::now();
            let seconds = self.begin.elapsed().as_secs();
            results.progress(&format!("waiting for {what} since {seconds}s"));
        }
        thread::sleep(POLL);
    }
}

/// A QEMU. It ends with this.
pub struct Qemu {
    name: String,
    child: Child,
    qmp: Option<Qmp<UnixStream>>,
    /// What it does, and has done.
    pub trace: Trace,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    /// Starts one with these VFs and a number of ports for them, to boot a guest or, with
    /// `incoming`, to wait for one.
    pub fn start(
        results: &mut Results,
        common: &Common,
        config: Config,
        name: &str,
        (vfs, ports): (&[Assigned], usize),
        incoming: bool,
    ) -> Result<Self> {
        for kind in ["qmp", "console", "report", "orders", "trace"] {
            let _ = fs::remove_file(our_file(name, kind));
        }
        let log = File::create(our_file(name, "log"))?;
        let mut command = in_root(&format!("{}/usr/bin/qemu-system-x86_64", common.consumer));
        command
            .envs(environment(common, config))
            .args(arguments(common, config, name, vfs, ports))
            .stdout(log.try_clone()?)
            .stderr(log);
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let mut qemu = Self {
            name: name.to_string(),
            child: command.spawn().context("qemu-system-x86_64")?,
            qmp: None,
            trace: Trace::new(name, our_file(name, "trace")),
        };
        let mut wait = Wait::new();
        let socket = our_file(name, "qmp");
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(err) => {
                    if qemu.child.try_wait()?.is_some() || wait.is_longer_than(TIMEOUT) {
                        bail!("{socket}: {err}\n{}", qemu.said());
                    }
                }
            }
            wait.go_on(results, name);
        };
        stream.set_read_timeout(Some(ANSWER))?;
        qemu.qmp = Some(Qmp::new(stream).with_context(|| qemu.said())?);
        let vfs: Vec<String> = vfs.iter().map(|vf| vf.bdf.to_string()).collect();
        results.say(&format!("{name}: QEMU has opened {}", vfs.join(", ")));
        Ok(qemu)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has it carry out a command.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let qmp = self.qmp.as_mut().context("no QMP")?;
        let answer = qmp.execute(command, arguments);
        answer.with_context(|| {
            let threads = self.threads().unwrap_or_default();
            format!("{}\n{threads}{}", self.name, self.said())
        })
    }

    /// Sends it a command, and does not wait for the answer, which may not come.
    pub fn send(&mut self, command: &str, arguments: Value) -> Result<()> {
        let qmp = self.qmp.as_mut().context("no QMP")?;
        qmp.send(command, arguments)
    }

    fn read_file(&self, kind: &str) -> String {
        let bytes = fs::read(our_file(&self.name, kind)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What its guest has reported.
    pub fn reports(&self) -> String {
        self.read_file("report")
    }

    /// What it and its guest have said last.
    pub fn said(&self) -> String {
        let mut said = Vec::new();
        for kind in ["log", "trace", "console", "report"] {
            let text = self.read_file(kind);
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                said.push(format!("{}.{kind}: {line}", self.name));
            }
        }
        said.join("\n")
    }

    /// What its threads are doing: where they are in the kernel, and how busy.
    fn threads(&self) -> Result<String> {
        let mut text = String::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let dir = thread?.path();
            for file in ["comm", "schedstat", "stack"] {
                text += &fs::read_to_string(dir.join(file)).unwrap_or_default();
            }
        }
        Ok(text)
    }

    /// Gives its guest an order.
    pub fn order(&self, order: &str) -> Result<()> {
        let mut stream = UnixStream::connect(our_file(&self.name, "orders"))?;
        Ok(writeln!(stream, "{order}")?)
    }

    /// Waits until something is true, of what the guest has reported.
    pub fn wait_for_reports(
        &mut self,
        results: &mut Results,
        timeout: Duration,
        done: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut wait = Wait::new();
        loop {
            self.trace.tell(results)?;
            let text = self.reports();
            // The last line may not be whole.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            let is_error = |line: &str| line.starts_with(inner::ERROR);
            ensure!(
                !whole.lines().any(is_error),
                "the guest found {text}\n{}",
                self.said()
            );
            if done(&text) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("QEMU ended with {status}\n{}", self.said());
            }
            if wait.is_longer_than(timeout) {
                bail!("the guest is silent\n{}{}", self.threads()?, self.said());
            }
            wait.go_on(results, "the guest");
        }
    }

    /// Waits until the migration is in a state. Returns all about it. What happens in
    /// `other` is told, too.
    pub fn wait_for_migration(
        &mut self,
        results: &mut Results,
        what: &str,
        mut other: Option<&mut Trace>,
        done: impl Fn(&Value, &Trace) -> bool,
    ) -> Result<Value> {
        let mut wait = Wait::new();
        loop {
            self.trace.tell(results)?;
            if let Some(other) = &mut other {
                other.tell(results)?;
            }
            let info = self.execute("query-migrate", json!({}))?;
            if done(&info, &self.trace) {
                return Ok(info);
            }
            let status = info["status"].as_str().unwrap_or_default();
            if ENDS.contains(&status) || wait.is_longer_than(TIMEOUT) {
                bail!(
                    "{} did not get to {what}: {info}\n{}",
                    self.name,
                    self.said()
                );
            }
            wait.go_on(results, what);
        }
    }

    /// Waits for an event. QEMU need not answer until then.
    pub fn wait_for_event(
        &mut self,
        results: &mut Results,
        what: &str,
        is_it: impl Fn(&Event) -> bool,
    ) -> Result<()> {
        let mut wait = Wait::new();
        loop {
            self.trace.tell(results)?;
            if self.trace.events.iter().any(&is_it) {
                return Ok(());
            }
            if wait.is_longer_than(TIMEOUT) {
                bail!("{} did not get to {what}\n{}", self.name, self.said());
            }
            wait.go_on(results, what);
        }
    }

    /// Waits until the migration has a status.
    pub fn wait_for_status(
        &mut self,
        results: &mut Results,
        status: &str,
        other: Option<&mut Trace>,
    ) -> Result<Value> {
        self.wait_for_migration(results, status, other, |info, _| info["status"] == status)
    }

    /// Waits until the migration has ended. Returns its status.
    pub fn wait_for_end(&mut self, results: &mut Results, other: &mut Trace) -> Result<String> {
        let ended = |info: &Value, _: &Trace| {
            info["status"]
                .as_str()
                .is_some_and(|status| ENDS.contains(&status))
        };
        let info = self.wait_for_migration(results, "its end", Some(other), ended)?;
        Ok(info["status"].as_str().unwrap_or_default().to_string())
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Whether its guest runs. None runs in a QEMU that ends.
    pub fn runs(&mut self) -> Result<bool> {
        let err = match self.execute("query-status", json!({})) {
            Ok(status) => return Ok(status["running"] == true),
            Err(err) => err,
        };
        let wait = Wait::new();
        while !self.has_ended()? {
            if wait.is_longer_than(TIMEOUT) {
                return Err(err);
            }
            thread::sleep(POLL);
        }
        Ok(false)
    }

    /// Stops its process, which then does nothing, but does not end.
    pub fn freeze(&self) -> Result<()> {
        Ok(sys::kill(self.child.id(), libc::SIGSTOP)?)
    }

    /// Kills it.
    pub fn die(mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(
            status.signal() == Some(libc::SIGKILL),
            "{} had ended with {status} before\n{}",
            self.name,
            self.said()
        );
        Ok(())
    }
}
