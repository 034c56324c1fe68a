// SPDX-License-Identifier: GPL-2.0

//! Init of a machine in the machine whose own mlx5e drives a VF, which QEMU gives it and
//! migrates. The guest knows nothing of migrations. It has streams with its peer that go on
//! until the order [`STOP`]; all the time it makes short connections as well, and changes what
//! its interface receives. It reports in rounds, as [`inner`] does.

use super::{
    connection::{
        visit,
        Greeting,
        Purpose,
        GUEST, //
    },
    control,
    sequence::End,
    stream::Stream,
    tally::{
        GuestTally,
        Tally, //
    },
};
use crate::{
    hca,
    inner,
    kmsg::KernelLog,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io::Write,
    sync::{
        atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
        Arc, //
    },
    thread::{
        self,
        JoinHandle, //
    },
    time::{
        Duration,
        Instant, //
    },
};

/// The order to end all traffic, and to say what has come of it.
pub const STOP: &str = "stop";
/// Before the answer, which is a [`GuestTally`].
pub const TALLY: &str = "note: tally ";

/// Streams with the peer.
const STREAMS: u64 = 2;
/// Numbers of short connections begin here.
const FIRST_VISIT: u64 = 1000;
/// Time between two short connections, and between two changes of what is received.
const BETWEEN_VISITS: Duration = Duration::from_millis(300);
const BETWEEN_RULES: Duration = Duration::from_millis(700);
/// How long driver and link may take.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// A UDP port that nobody sends to.
const UNUSED_PORT: u16 = 9;

/// Waits until something can be had.
fn wait_for<T>(what: &str, get: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match get() {
            Err(err) if Instant::now() > end => return Err(err.context(what.to_string())),
            Err(_) => thread::sleep(POLL),
            got => return got,
        }
    }
}

/// Has mlx5e bring up its interface. Returns its name.
fn bring_up(port: &mut File) -> Result<String> {
    let begin = Instant::now();
    crate::load_modules()?;
    let vf = hca::lone_vfs()?[0];
    let name = wait_for("the interface", || hca::interface(vf))?;
    let loaded = begin.elapsed().as_millis();
    sys::set_address(&name, GUEST)?;
    sys::set_interface_flags(&name, libc::IFF_UP, true)?;
    wait_for("its link", || {
        let running = sys::interface_flags(&name)? & libc::IFF_RUNNING != 0;
        ensure!(running, "{name} has no link");
        Ok(())
    })?;
    writeln!(
        port,
        "{}mlx5e has made {name} after {loaded} ms, and its link was up after {} ms",
        inner::NOTE,
        begin.elapsed().as_millis()
    )?;
    Ok(name)
}

/// Short connections, one after another, until it is time to end.
fn keep_visiting(ending: &AtomicBool) -> GuestTally {
    let mut tally = GuestTally::default();
    for connection in FIRST_VISIT.. {
        if ending.load(Relaxed) {
            break;
        }
        let greeting = Greeting {
            purpose: Purpose::Visit,
            connection,
        };
        let visited = greeting
            .connect()
            .and_then(|socket| visit(socket, connection, End::Guest));
        tally.visits_made += 1;
        match visited {
            Ok(one) => tally.visits.add(&one),
            Err(_) => tally.visits_lost += 1,
        }
        thread::sleep(BETWEEN_VISITS);
    }
    tally
}

/// A change of what an interface receives.
type Change = (&'static str, fn(&str) -> std::io::Result<()>);

/// Those that follow each other.
const CHANGES: [Change; 4] = [
    ("a flow rule comes", |name| {
        control::add_rule(name, 0, UNUSED_PORT)
    }),
    ("promiscuous mode is turned on", |name| {
        control::set_promiscuous(name, true)
    }),
    ("a flow rule goes", |name| control::remove_rule(name, 0)),
    ("promiscuous mode is turned off", |name| {
        control::set_promiscuous(name, false)
    }),
];

/// Changes what is received until it is time to end.
fn keep_changing(name: &str, ending: &AtomicBool) -> GuestTally {
    let mut tally = GuestTally::default();
    for (what, change) in CHANGES.iter().cycle() {
        if ending.load(Relaxed) {
            break;
        }
        match change(name) {
            Ok(()) => tally.rules_changed += 1,
            Err(err) => tally.rules_failed.push(format!("{what}: {err}")),
        }
        thread::sleep(BETWEEN_RULES);
    }
    tally
}

/// All that a guest does on its network.
struct Traffic {
    ending: Arc<AtomicBool>,
    streams: Vec<Stream>,
    others: Vec<JoinHandle<GuestTally>>,
}

impl Traffic {
    fn start(name: &str) -> Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let mut streams = Vec::new();
        for connection in 1..=STREAMS {
            let greeting = Greeting {
                purpose: Purpose::Stream,
                connection,
            };
            let socket = greeting.connect().context("connecting to the peer")?;
            let ending = ending.clone();
            streams.push(Stream::start(
                socket,
                connection,
                End::Guest,
                ending,
                |_| (),
            )?);
        }
        let visiting = ending.clone();
        let (changing, name) = (ending.clone(), name.to_string());
        let others = vec![
            thread::spawn(move || keep_visiting(&visiting)),
            thread::spawn(move || keep_changing(&name, &changing)),
        ];
        Ok(Self {
            ending,
            streams,
            others,
        })
    }

    /// Ends it. Returns what has come of it.
    fn finish(self) -> Result<GuestTally> {
        self.ending.store(true, Relaxed);
        let mut tally = GuestTally::default();
        for other in self.others {
            let other = other.join().ok().context("a thread has died")?;
            tally.visits.add(&other.visits);
            tally.visits_made += other.visits_made;
            tally.visits_lost += other.visits_lost;
            tally.rules_changed += other.rules_changed;
            tally.rules_failed.extend(other.rules_failed);
        }
        let streams: Vec<Tally> = self.streams.into_iter().map(Stream::finish).collect();
        tally.streams = streams;
        Ok(tally)
    }
}

fn work_for_ever(port: &mut File) -> Result<()> {
    let mut log = KernelLog::new()?;
    let name = bring_up(port)?;
    let mut traffic = Some(Traffic::start(&name)?);
    let orders = inner::listen()?;
    let mut log_faults = Vec::new();
    for round in 0.. {
        if round % inner::STEP == 0 {
            writeln!(port, "{}", inner::report(round))?;
        }
        log_faults.extend(log.driver_warnings());
        log_faults.extend(log.end_span());
        if orders.try_recv().as_deref() == Ok(STOP) {
            if let Some(traffic) = traffic.take() {
                let mut tally = traffic.finish()?;
                tally.log_faults = log_faults.clone();
                writeln!(port, "{TALLY}{}", tally.line())?;
            }
        }
        thread::sleep(inner::PAUSE);
    }
    Ok(())
}

/// Works; does not return unless it cannot even report.
pub fn run() -> Result<()> {
    let mut port = OpenOptions::new().write(true).open(inner::PORT)?;
    if let Err(err) = work_for_ever(&mut port) {
        writeln!(port, "{} {err:#}", inner::ERROR)?;
    }
    loop {
        thread::park();
    }
}
