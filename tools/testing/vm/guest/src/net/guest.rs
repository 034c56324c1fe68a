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
        PEER, //
    },
    control,
    datagrams::{
        self,
        Exchange, //
    },
    interface::{
        Change,
        Interface, //
    },
    sequence::End,
    statistics::out_of_buffer,
    stream::Stream,
    tally::{
        GuestTally,
        Tally, //
    },
    until::Until, //
};
use crate::{
    hca,
    inner,
    kmsg::KernelLog, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io::Write,
    net::{
        Ipv4Addr,
        UdpSocket, //
    },
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
/// The order to create objects all the time from now on.
pub const BE_BUSY: &str = "be busy";
/// The answer when a [`Change`] was done, or the guest is busy.
pub const DONE: &str = "note: done";

/// Streams with the peer.
const STREAMS: u64 = 2;
/// Numbers of short connections begin here.
const FIRST_VISIT: u64 = 1000;
/// Time between two short connections, and between two changes of what is received.
const BETWEEN_VISITS: Duration = Duration::from_millis(300);
const BETWEEN_RULES: Duration = Duration::from_millis(700);
/// The pause after a change of the MTU, which makes all queues anew: the shortest one, and how
/// many times as long as the change it is at least. A change loses frames. If the interface
/// changed most of the time, as it would on a slow machine, TCP could make no progress.
const BETWEEN_MTUS: (Duration, u32) = (Duration::from_millis(150), 3);
/// A UDP port that nobody sends to.
const UNUSED_PORT: u16 = 9;

/// Has mlx5e bring up its interface.
fn bring_up(port: &mut File) -> Result<Interface> {
    let begin = Instant::now();
    crate::load_modules()?;
    let interface = Interface::of(hca::lone_vfs()?[0])?;
    let loaded = begin.elapsed().as_millis();
    interface.turn_on()?;
    writeln!(
        port,
        "{}mlx5e has made {} after {loaded} ms, and its link was up after {} ms",
        inner::NOTE,
        interface.used().name,
        begin.elapsed().as_millis()
    )?;
    Ok(interface)
}

/// Short connections, one after another, until it is time to end.
fn keep_visiting(interface: &Interface, ending: &AtomicBool) -> GuestTally {
    let mut tally = GuestTally::default();
    for connection in FIRST_VISIT.. {
        if ending.load(Relaxed) {
            break;
        }
        if let Some(_used) = interface.usable() {
            make_visit(connection, &mut tally);
        }
        thread::sleep(BETWEEN_VISITS);
    }
    tally
}

fn make_visit(connection: u64, tally: &mut GuestTally) {
    let greeting = Greeting {
        purpose: Purpose::Visit,
        connection,
    };
    let visited = greeting
        .connect()
        .and_then(|mut socket| visit(&mut socket, connection, End::Guest));
    tally.visits_made += 1;
    match visited {
        Ok(one) => tally.visits.add(&one),
        Err(_) => tally.visits_lost += 1,
    }
}

/// A rule of what an interface receives, which comes or goes.
type Rule = (&'static str, fn(&str) -> std::io::Result<()>);

/// Those that follow each other.
const RULES: [Rule; 4] = [
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
fn keep_changing(interface: &Interface, ending: &AtomicBool) -> GuestTally {
    let mut tally = GuestTally::default();
    let mut generation = 0;
    let mut rules = RULES.iter().cycle();
    while !ending.load(Relaxed) {
        if let Some(used) = interface.usable() {
            if used.generation != generation {
                generation = used.generation;
                rules = RULES.iter().cycle();
            }
            let next = rules
                .next()
                .map(|(what, change)| (what, change(&used.name)));
            match next {
                Some((what, Err(err))) => tally.rules_failed.push(format!("{what}: {err}")),
                Some((_, Ok(()))) | None => tally.rules_changed += 1,
            }
        }
        thread::sleep(BETWEEN_RULES);
    }
    tally
}

/// Changes the MTU until it is time to end.
fn keep_busy(interface: &Interface, ending: &AtomicBool) -> GuestTally {
    let mut tally = GuestTally::default();
    let (least, times) = BETWEEN_MTUS;
    while !ending.load(Relaxed) {
        let begin = Instant::now();
        match interface.change_mtu() {
            Ok(()) => tally.rules_changed += 1,
            Err(err) => tally.rules_failed.push(format!("the MTU changes: {err:#}")),
        }
        thread::sleep(least.max(begin.elapsed() * times));
    }
    tally
}

/// All that a guest does on its network.
struct Traffic {
    ending: Arc<AtomicBool>,
    interface: Arc<Interface>,
    streams: Vec<Stream>,
    datagrams: Exchange,
    others: Vec<JoinHandle<GuestTally>>,
}

impl Traffic {
    fn start(interface: Interface) -> Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let interface = Arc::new(interface);
        let until = Until::both(&ending);
        let mut streams = Vec::new();
        for connection in 1..=STREAMS {
            let greeting = Greeting {
                purpose: Purpose::Stream,
                connection,
            };
            let socket = greeting.connect().context("connecting to the peer")?;
            let until = until.clone();
            streams.push(Stream::start(
                socket,
                connection,
                End::Guest,
                until,
                |_| (),
            )?);
        }
        let datagrams = Exchange::start(
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, datagrams::PORT))?,
            (PEER, datagrams::PORT).into(),
            End::Guest,
            true,
            until,
            {
                let interface = interface.clone();
                move || out_of_buffer(&interface.usable().context("it is held")?.name)
            },
        )?;
        let mut traffic = Self {
            ending,
            interface,
            streams,
            datagrams,
            others: Vec::new(),
        };
        traffic.keep(keep_visiting);
        traffic.keep(keep_changing);
        Ok(traffic)
    }

    /// Does something else until it is time to end.
    fn keep(&mut self, work: fn(&Interface, &AtomicBool) -> GuestTally) {
        let (interface, ending) = (self.interface.clone(), self.ending.clone());
        let thread = thread::spawn(move || work(&interface, &ending));
        self.others.push(thread);
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
        tally.datagrams = self.datagrams.finish()?.counted;
        Ok(tally)
    }
}

/// Whether the driver may complain.
fn is_held(traffic: &Option<Traffic>) -> bool {
    traffic
        .as_ref()
        .is_some_and(|traffic| traffic.interface.is_held())
}

fn work_for_ever(port: &mut File) -> Result<()> {
    let mut log = KernelLog::new()?;
    let interface = bring_up(port)?;
    let mut traffic = Some(Traffic::start(interface)?);
    let orders = inner::listen()?;
    let mut log_faults = Vec::new();
    for round in 0.. {
        if round % inner::STEP == 0 {
            writeln!(port, "{}", inner::report(round))?;
        }
        let order = orders.try_recv().ok();
        let was_held = is_held(&traffic);
        match (order.as_deref(), &mut traffic) {
            (Some(BE_BUSY), Some(traffic)) => {
                traffic.keep(keep_busy);
                writeln!(port, "{DONE}")?;
            }
            (Some(order), Some(traffic)) if order != STOP => {
                let change = Change::ordered(order).context(order.to_string())?;
                traffic.interface.change(change).context(change.order())?;
                writeln!(port, "{DONE}")?;
            }
            _ => (),
        }
        let warnings = log.driver_warnings();
        // What the driver says of a VF that was reset, and of being told so, is expected.
        if !was_held {
            log_faults.extend(warnings);
        }
        log_faults.extend(log.end_span());
        if order.as_deref() == Some(STOP) {
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
