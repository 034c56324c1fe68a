// SPDX-License-Identifier: GPL-2.0

//! Has something happen to a VF at a place, and looks at what comes of it.

use super::{
    child::{
        self,
        User, //
    },
    events::{
        self,
        Event,
        How,
        PATIENCE, //
    },
    fates::Fate,
    place::Place, //
};
use crate::{
    campaign::Counts,
    cgroup::Group,
    fault::{
        opcode,
        Fault,
        Faults, //
    },
    hca::Driver,
    kmsg::{
        self,
        KernelLog, //
    },
    scenarios::{
        firmware_fails::{
            session::Session,
            words, //
        },
        streams,
        waits::{
            aside,
            within, //
        },
    },
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use std::{
    io,
    os::{
        fd::{
            AsFd,
            OwnedFd, //
        },
        unix::process::ExitStatusExt, //
    },
    sync::{
        mpsc::{
            Receiver,
            TryRecvError, //
        },
        Arc, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    state::State,
    uapi, //
};

/// Commands of a call among which one is chosen to be held. Calls that send fewer have their
/// first one held.
const COMMANDS: u32 = 6;
/// Most milliseconds from the beginning of an event until firmware goes on.
const APART: u64 = 200;
/// What the VFs of a driver go through.
pub(super) struct Bench {
    driver: Driver,
    vf: Bdf,
    other: Bdf,
    stream: Arc<[u8]>,
    rng: Rng,
    pub(super) counts: Counts,
}

/// A call that is tried when something has happened.
type Probe = (&'static str, fn(&mut Session) -> io::Result<()>);

const PROBES: [Probe; 4] = [
    ("DATA_SIZE", Session::data_size),
    ("read", Session::settle),
    ("LOGGING_STOP", Session::stop_logging),
    ("to RUNNING", |session| session.set(State::RUNNING)),
];

/// Waits until a command has met a fault, or the call has ended without that. Returns what came
/// of a call that has ended.
fn wait_for_fault<T>(faults: &Faults, call: &Receiver<T>) -> Result<Option<T>> {
    let begin = Instant::now();
    while faults.fired()? == 0 {
        match call.try_recv() {
            Ok(ended) => return Ok(Some(ended)),
            Err(TryRecvError::Disconnected) => bail!("the thread of the call panicked"),
            Err(TryRecvError::Empty) => (),
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "the call neither ends nor waits"
        );
        thread::sleep(Duration::from_millis(1));
    }
    Ok(None)
}

impl Bench {
    /// Makes VFs.
    pub(super) fn new(driver: Driver, seed: u64) -> Result<Self> {
        let (vf, other) = events::vfs_anew(driver)?;
        let (stream, _) = streams::save(other, 2)?;
        child::set_stream(&stream)?;
        Ok(Self {
            driver,
            vf,
            other,
            stream: stream.into(),
            rng: Rng::with_seed(seed),
            counts: Counts::new(driver.name()),
        })
    }

    /// Brings things into an order of the seed's.
    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        self.rng.shuffle(all);
    }

    /// Numbers of the commands to try to hold, one after the other.
    fn commands(&mut self, place: Place) -> Vec<u32> {
        match place {
            Place::Rest(_) => Vec::new(),
            Place::Call(_) => vec![self.rng.u32(1..=COMMANDS), 1],
        }
    }

    /// A moment, in which firmware and what happens go on in either order.
    fn pause(&mut self) {
        thread::sleep(Duration::from_millis(self.rng.u64(..APART)));
    }

    fn count(&mut self, succeeded: bool) {
        self.counts.requests += 1;
        self.counts.succeeded += u64::from(succeeded);
    }

    /// A VF that is at a place.
    fn ready(&self, place: Place) -> Result<Session> {
        let mut session = Session::open(self.driver, self.vf, self.stream.clone())?;
        place.get_ready(&mut session).context("getting ready")?;
        Ok(session)
    }

    /// Begins the call, of which firmware holds a command if it sends any.
    fn begin(&mut self, place: Place, event: &Event, faults: &Faults) -> Result<Begun> {
        for nth in self.commands(place) {
            let begun = Begun::new(self.ready(place)?, place, event, || {
                faults.arm(event.late_command().nth(nth))
            })?;
            let ended = wait_for_fault(faults, &begun.call)?;
            if ended.is_none() {
                return Ok(begun);
            }
            // The call has sent fewer commands. Those that close the device are not meant.
            faults.disarm()?;
        }
        Begun::new(self.ready(place)?, place, event, || Ok(()))
    }

    /// Has an event happen at a place. Returns what came of it, in words.
    pub(super) fn event(&mut self, place: Place, event: &'static Event) -> Result<String> {
        let of_driver = match self.driver {
            Driver::Rust => &[][..],
            Driver::C => event.says_of_c,
        };
        let says = event.says.iter().chain(of_driver);
        says.for_each(|text| kmsg::expect(text));
        let faults = Faults::open()?;
        let mut log = KernelLog::new()?;
        log.lines();
        let Begun {
            call,
            device,
            errors,
        } = self.begin(place, event, &faults)?;
        self.counts.faults_injected += 1;
        let vf = self.vf;
        let happened = aside(move || event.happen(vf, device.as_ref()));
        self.pause();
        match event.takes_firmware {
            // It may be gone.
            true => drop(faults.release()),
            false => faults.release()?,
        }
        let (mut session, result) = within(&call, PATIENCE, "the call")?;
        self.count(result.is_ok());
        let result = words(&result);
        ensure!(event.allows(&result), "the call ended with {result}");
        // Devices that are in use go when their users let them go.
        let over = match event.waits_for_users {
            true => None,
            false => Some(within(&happened, PATIENCE, event.name)?),
        };
        if let Some(errors) = errors.filter(|_| !place.closes()) {
            let told = uapi::poll(errors.as_fd(), libc::POLLIN, 0)?;
            ensure!(told == libc::POLLIN, "the user was not told of an error");
        }
        let probed = self.probe(&mut session, event, place);
        if !event.notices.is_empty() {
            log.wait_for(event.notices, PATIENCE)?;
        }
        drop(session);
        let over = match over {
            Some(over) => over,
            None => within(&happened, PATIENCE, event.name)?,
        };
        // What is armed can be disarmed only while there is a PF.
        drop(faults);
        over.context("the event itself")?;
        if (event.mend)()? {
            (self.vf, self.other) = events::vfs_anew(self.driver)?;
        }
        let probed = probed?;
        self.works()?;
        Ok(format!("{result}; then {probed}"))
    }

    /// Makes other calls. Returns how they ended, in words.
    fn probe(&mut self, session: &mut Session, event: &Event, place: Place) -> Result<String> {
        let mut seen = vec![session.state()?];
        if place.closes() {
            return Ok(seen.concat());
        }
        for (name, call) in PROBES {
            if name == "LOGGING_STOP" && !session.logs() {
                continue;
            }
            let result = call(session);
            self.count(result.is_ok());
            let result = words(&result);
            let refused = name == "to RUNNING" && place.loads() && result == "EIO";
            ensure!(
                event.allows(&result) || refused,
                "after that, {name}: {result}"
            );
            seen.push(format!("{name} {result}"));
        }
        Ok(seen.join(", "))
    }

    /// Has a process that has the VF at a place meet its fate.
    pub(super) fn fate(&mut self, place: Place, fate: &'static Fate) -> Result<String> {
        let faults = Faults::open()?;
        let group = Arc::new(Group::new("life")?);
        let mut nth = self.commands(place).into_iter();
        let (user, result) = loop {
            let nth = nth.next();
            let mut user = User::start(self.vf, self.driver, place, &group)?;
            if let Some(nth) = nth {
                faults.arm(Fault::held(opcode::ANY).nth(nth))?;
            }
            let id = user.id();
            user.go()?;
            let result = user.result();
            match nth {
                Some(_) => match wait_for_fault(&faults, &result)? {
                    None => break (id, result),
                    Some(early) => {
                        faults.disarm()?;
                        early?.0.end()?;
                    }
                },
                None => break (id, result),
            }
        };
        self.counts.faults_injected += 1;
        let begun = fate.begin(user, &group);
        self.pause();
        faults.release()?;
        fate.has_begun(&begun)?;
        let seen = match fate.ends {
            true => {
                let (user, said) = within(&result, PATIENCE, "the end of the process")??;
                let status = within(&user.wait(), PATIENCE, "a killed process")??;
                ensure!(
                    status.signal() == Some(libc::SIGKILL),
                    "the process has ended with {status}"
                );
                said.unwrap_or_else(|| "no result".to_string())
            }
            false => {
                // Others do not care.
                streams::save(self.other, 1).context("another VF")?;
                (fate.undo)(user, &group)?;
                let (user, said) = within(&result, PATIENCE, "the process")??;
                let said = said.context("the process has ended")?;
                ensure!(said == "ok", "its call ended with {said}");
                user.end()?;
                said
            }
        };
        self.count(seen == "ok");
        drop(faults);
        self.works()?;
        Ok(seen)
    }

    /// The VF can be migrated, there and back.
    fn works(&mut self) -> Result<()> {
        for (from, to) in [(self.vf, self.other), (self.other, self.vf)] {
            streams::migrate(from, to, 1).context("afterwards")?;
            self.counts.streams += 1;
        }
        Ok(())
    }
}

/// A call that is under way.
struct Begun {
    call: Receiver<(Session, io::Result<()>)>,
    /// The device, if what happens needs it.
    device: Option<OwnedFd>,
    /// What tells the user of errors, if that happens.
    errors: Option<OwnedFd>,
}

impl Begun {
    /// Begins it, after `arm`.
    fn new(
        mut session: Session,
        place: Place,
        event: &Event,
        arm: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let device = match event.how {
            How::Device(_) => Some(session.descriptor()?),
            How::Host(_) => None,
        };
        let errors = match event.is_error {
            true => Some(session.errors()?),
            false => None,
        };
        arm()?;
        let call = aside(move || {
            let result = place.carry_on(&mut session);
            (session, result)
        });
        Ok(Self {
            call,
            device,
            errors,
        })
    }
}
