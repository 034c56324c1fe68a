// SPDX-License-Identifier: GPL-2.0

//! Hostile streams, and devices and processes that go away.

use super::{
    compare::{self, errno_name, outcome, words, Difference, Observation, Site},
    streams, Bench, NamedRun,
};
use crate::{
    fault::{self, opcode, Fault, Faults},
    hca::{self, Driver, Pf},
    kmsg, sys,
    tap::Results,
};
use anyhow::{ensure, Context, Result};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};
use vfio_mig::{bdf::Bdf, device::Device, state::State};
use vm_common::judge::UNDESTROYED;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("badinput", run)];

/// What mlx5_core says of a LOAD that firmware has refused.
pub const REFUSED_LOAD: &str = "LOAD_VHCA_STATE(0x119)";

const OPTIONAL: u32 = 1;
/// Bytes before the first record with an image.
const SIZE_RECORD: usize = 24;
/// `MLX5_CMD_STAT_BAD_RES_ERR`
const BAD_RES: u8 = 0x5;

fn header(size: u64, flags: u32, tag: u32) -> Vec<u8> {
    let mut bytes = size.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(tag.to_le_bytes());
    bytes
}

/// Writes `bytes` to a resuming file, and "all" where it took them.
fn write(file: &mut File, bytes: &[u8]) -> String {
    match file.write(bytes) {
        Ok(n) if n == bytes.len() => "all".to_string(),
        other => words(other),
    }
}

/// Writes `bytes` to a resuming file, and goes on until there is an error: it
/// may come a bit later, from firmware.
fn resume(site: &Site, bytes: &[u8]) -> Result<String> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    let written = write(&mut file, bytes);
    let mut next = write(&mut file, &[0]);
    let begin = Instant::now();
    while next == "all" && begin.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(10));
        next = write(&mut file, &[0]);
    }
    let last = write(&mut file, &[0]);
    drop((device, file));
    usable(site)?;
    Ok(format!("{written}, then {next}, then {last}"))
}

/// Writes `bytes` and leaves RESUMING.
fn leave(site: &Site, bytes: &[u8]) -> Result<String> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    let written = write(&mut file, bytes);
    let left = outcome(device.set_state(State::STOP));
    let state = device.state()?;
    drop((device, file));
    usable(site)?;
    Ok(format!("{written}, leaving: {left}, {state}"))
}

/// A good migration still works.
fn usable(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.other, 2)?;
    ensure!(
        streams::load(site.vf, &stream)? == digest,
        "afterwards, a good migration fails"
    );
    Ok(())
}

fn available_kib() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .context("no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Starts a process that holds a device in a state, and returns once it does.
fn holder(vf: Bdf, state: State) -> Result<std::process::Child> {
    let mut child = Command::new("/proc/self/exe")
        .args(["--hold", &vf.to_string(), &state.0.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the holder said {line:?}");
    Ok(child)
}

/// What a holder does.
pub fn hold(args: &[String]) -> ExitCode {
    let held = || -> Result<(Device, Option<File>)> {
        let [bdf, state] = args else {
            anyhow::bail!("--hold BDF STATE");
        };
        let device = Device::open(bdf.parse::<Bdf>()?)?;
        let file = device.set_state(State(state.parse()?))?.map(File::from);
        Ok((device, file))
    };
    match held() {
        Ok(_held) => {
            println!("ready");
            loop {
                thread::park();
            }
        }
        Err(err) => {
            println!("{err:#}");
            ExitCode::FAILURE
        }
    }
}

const OBSERVATIONS: &[Observation] = &[
    ("firmware refuses to stop the second side", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        let fault = Fault::fail(opcode::SUSPEND_VHCA).about(fault::vhca(site.vf)?);
        faults.arm(fault.nth(2))?;
        let other = Device::open(site.other)?;
        other.set_state(State::STOP)?;
        let seen = [
            outcome(device.set_state(State::STOP)),
            device.state()?.to_string(),
            outcome(device.set_state(State::STOP)),
        ];
        Ok(format!("{}, fired {}", seen.join(", "), faults.fired()?))
    }),
    ("firmware refuses what is loaded", |site| {
        let (stream, _) = streams::save(site.other, 2)?;
        let faults = Faults::open()?;
        // A device is reset when it is opened, and does not lose the fault.
        let fault = Fault::fail(opcode::LOAD_VHCA_STATE).about(fault::vhca(site.vf)?);
        faults.arm(fault.status(BAD_RES, 0x1234))?;
        ensure!(streams::load(site.vf, &stream).is_err(), "it was loaded");
        let seen = format!("fired {}, armed {}", faults.fired()?, faults.armed()?);
        usable(site)?;
        Ok(seen)
    }),
    ("firmware is late", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        let delay = Duration::from_millis(300);
        faults.arm(Fault::late(opcode::SUSPEND_VHCA, delay).times(2))?;
        let begin = Instant::now();
        device.set_state(State::STOP)?;
        ensure!(begin.elapsed() >= 2 * delay, "it was not late");
        Ok(format!("fired {}", faults.fired()?))
    }),
    ("firmware does not answer until it is told to", |site| {
        let faults = Faults::open()?;
        let device = Device::open(site.vf)?;
        faults.arm(Fault::held(opcode::SUSPEND_VHCA))?;
        let stopping = thread::spawn(move || outcome(device.set_state(State::RUNNING_P2P)));
        faults.wait_for_held(1)?;
        thread::sleep(Duration::from_millis(300));
        ensure!(!stopping.is_finished(), "it was answered");
        faults.release()?;
        Ok(stopping.join().unwrap_or_default())
    }),
    ("a record that is too large", |site| {
        let mut seen = Vec::new();
        for size in [1 << 32, u64::MAX, u64::MAX - 15] {
            for (flags, tag) in [(0, 0), (OPTIONAL, 1), (OPTIONAL, 99)] {
                seen.push(resume(site, &header(size, flags, tag))?);
            }
        }
        seen.dedup();
        Ok(seen.join("; "))
    }),
    ("a record that nobody knows", |site| {
        let mandatory = resume(site, &header(5, 0, 99))?;
        let mut optional = header(5, OPTIONAL, 99);
        optional.extend([7; 5]);
        Ok(format!(
            "{mandatory}; optional: {}",
            leave(site, &optional)?
        ))
    }),
    ("a large optional record is skipped", |site| {
        let mut bytes = header(300_000, OPTIONAL, 99);
        bytes.extend(vec![7; 300_000]);
        leave(site, &bytes)
    }),
    ("a size record that is too small", |site| {
        let mut bytes = header(4, OPTIONAL, 1);
        bytes.extend([1; 4]);
        leave(site, &bytes)
    }),
    ("a size record that is larger than needed", |site| {
        let mut bytes = header(12, OPTIONAL, 1);
        bytes.extend([0; 12]);
        leave(site, &bytes)
    }),
    ("an empty image", |site| resume(site, &header(0, 0, 0))),
    ("an image that is none", |site| {
        kmsg::expect(REFUSED_LOAD);
        let mut bytes = header(1000, 0, 0);
        bytes.extend([0xa5; 1000]);
        resume(site, &bytes)
    }),
    ("leaving RESUMING after an image that is none", |site| {
        kmsg::expect(REFUSED_LOAD);
        let mut bytes = header(1000, 0, 0);
        bytes.extend([0xa5; 1000]);
        leave(site, &bytes)
    }),
    ("an image with a flipped bit", |site| {
        kmsg::expect(REFUSED_LOAD);
        let (mut stream, _) = streams::save(site.other, 2)?;
        let middle = stream.len() / 2;
        stream[middle] ^= 0x10;
        resume(site, &stream)
    }),
    ("leaving RESUMING without any data", |site| leave(site, &[])),
    ("leaving RESUMING in a header", |site| leave(site, &[0; 9])),
    ("leaving RESUMING in an image", |site| {
        let (stream, _) = streams::save(site.other, 2)?;
        leave(site, &stream[..stream.len() - 1])
    }),
    ("a stream in single bytes", |site| {
        let (stream, digest) = streams::save(site.other, 2)?;
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        let (slow, fast) = stream.split_at(5000.min(stream.len()));
        for byte in slow {
            ensure!(file.write(&[*byte])? == 1);
        }
        file.write_all(fast)?;
        device.set_state(State::RUNNING)?;
        drop(device);
        ensure!(streams::load(site.vf, &stream)? == digest);
        Ok("ok".to_string())
    }),
    ("data from nowhere", |site| {
        let device = Device::open(site.vf)?;
        let file = device.begin(State::RESUMING)?;
        let header_from_nowhere = words(sys::write_raw(&file, 8, 16));
        device.reset()?;
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&header(100, 0, 0))?;
        let image_from_nowhere = words(sys::write_raw(&file, 8, 100));
        let after = words(file.write(&[0; 1]));
        drop(device);
        usable(site)?;
        Ok(format!(
            "{header_from_nowhere}, {image_from_nowhere}, then {after}"
        ))
    }),
    ("memory for an image that never comes", |site| {
        const CLAIM: u64 = 256 << 20;
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        let before = available_kib()?;
        file.write_all(&header(CLAIM, 0, 0))?;
        file.write_all(&[0; 100])?;
        let used = before.saturating_sub(available_kib()?) << 10;
        drop(file);
        drop(device);
        Ok(if used > CLAIM / 2 {
            "all that was claimed".to_string()
        } else if used < 16 << 20 {
            "next to none".to_string()
        } else {
            format!("{used} bytes")
        })
    }),
    ("killed in each state", |site| {
        let mut seen = Vec::new();
        for state in [
            State::STOP,
            State::STOP_COPY,
            State::RESUMING,
            State::RUNNING_P2P,
        ] {
            let mut child = holder(site.vf, state)?;
            child.kill()?;
            child.wait()?;
            let device = Device::open(site.vf)?;
            seen.push(format!("{state}: {}", device.state()?));
        }
        usable(site)?;
        Ok(seen.join(", "))
    }),
    ("a device that someone else has", |site| {
        let device = Device::open(site.vf)?;
        let again = Device::open(site.vf);
        let errno = again.err().and_then(|err| err.errno()).unwrap_or(0);
        drop(device);
        Ok(errno_name(errno))
    }),
    ("the PF is reloaded during a save", |site| {
        // Of a device that runs.
        kmsg::expect("SAVE_VHCA_STATE");
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        Pf::find()?.reload()?;
        let read = words(file.read(&mut [0; 100]));
        let state = device.state()?;
        let stop = outcome(device.set_state(State::STOP));
        // The device runs, since the PF was reloaded: there is nothing to save. The
        // C driver loses a reference to its file if that is closed before it has
        // dealt with the answer.
        let again = match device.begin(State::STOP_COPY) {
            // Firmware may have answered before the size record was read.
            Ok(mut file) => words(file.read_exact(&mut [0; 100]).map(|()| "all")),
            Err(err) => format!("{err:#}"),
        };
        thread::sleep(Duration::from_millis(100));
        drop((device, file));
        usable(site)?;
        Ok(format!(
            "read {read}, {state}, to STOP {stop}, to STOP_COPY {again}"
        ))
    }),
    ("the PF is reloaded during a load", |site| {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        file.write_all(&header(1000, 0, 0))?;
        Pf::find()?.reload()?;
        let write = words(file.write(&[0; 100]));
        let state = device.state()?;
        let stop = outcome(device.set_state(State::STOP));
        let end = device.state()?;
        drop((device, file));
        usable(site)?;
        Ok(format!("write {write}, {state}, to STOP {stop}, {end}"))
    }),
];

const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "an empty image",
        c: "all, then EINVAL, then ENODEV",
        rust: "EINVAL, then ENODEV, then ENODEV",
        reason: "the Rust driver has an image loaded when its last byte is there, \
                 which an empty one's is with the header",
    },
    Difference {
        name: "a size record that is too small",
        c: "all, leaving: ok, STOP",
        rust: "EINVAL, leaving: EIO, ERROR",
        reason: "a size of less than eight bytes is no size: the C driver takes \
                 bytes that were never sent for one",
    },
    Difference {
        name: "a record that nobody knows",
        c: "EOPNOTSUPP, then ENODEV, then ENODEV; optional: all, leaving: ok, STOP",
        rust: "EOPNOTSUPP, then ENODEV, then ENODEV; \
               optional: all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data, here without an image, must fail the \
                 transition",
    },
    Difference {
        name: "a large optional record is skipped",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "as above",
    },
    Difference {
        name: "a size record that is larger than needed",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "as above",
    },
    Difference {
        name: "the PF is reloaded during a load",
        c: "write ENODEV, RESUMING, to STOP ok, STOP",
        rust: "write ENODEV, RESUMING, to STOP EIO, ERROR",
        reason: "the uAPI: incomplete data must fail the transition",
    },
    Difference {
        name: "leaving RESUMING after an image that is none",
        c: "EINVAL, leaving: ok, STOP",
        rust: "EINVAL, leaving: EIO, ERROR",
        reason: "the uAPI: invalid data must fail the transition",
    },
    Difference {
        name: "leaving RESUMING in a header",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data must fail the transition",
    },
    Difference {
        name: "leaving RESUMING in an image",
        c: "all, leaving: ok, STOP",
        rust: "all, leaving: EINVAL, ERROR",
        reason: "the uAPI: incomplete data must fail the transition",
    },
    Difference {
        name: "memory for an image that never comes",
        c: "all that was claimed",
        rust: "next to none",
        reason: "the Rust driver allocates as data arrives",
    },
];

/// Where the PCI core, with lockdep, complains whenever a PF's driver is unbound
/// that has VFs: pci_disable_sriov() in the driver's remove() comes without
/// pci_rescan_remove_lock. It does so whatever the VFs are bound to.
pub const PF_UNBIND: &str = "drivers/pci/remove.c";

/// Takes VFs away.
type Removal = fn(&Pf) -> Result<()>;

/// User space resets a device while firmware saves it.
///
/// Only with the Rust driver: the C driver loses a reference to its file when
/// it cancels the work that would have dropped it, and cannot be unloaded.
fn reset_while_saving(site: &Site) -> Result<()> {
    for _ in 0..10 {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            words(file.read_to_end(&mut all))
        });
        device.reset()?;
        ensure!(device.state()? == State::RUNNING);
        // Done before the reset, or failed by it; never stuck.
        let read = reader.join().unwrap_or_default();
        ensure!(read == "ENODEV" || read.parse::<usize>().is_ok(), "{read}");
    }
    usable(site)
}

/// The PF's driver goes away while VFs are in use: it waits for them, and they
/// fail, but nothing else does.
fn pf_removed(site: &Site, remove: Removal) -> Result<String> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::STOP_COPY)?;
    let remover = thread::spawn(move || remove(&Pf::find()?));
    // It cannot finish while the device is open.
    thread::sleep(Duration::from_millis(500));
    let waits = !remover.is_finished();
    let read = words(file.read(&mut [0; 24]));
    drop(device);
    let begin = Instant::now();
    while !remover.is_finished() && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    ensure!(remover.is_finished(), "the removal is stuck");
    remover
        .join()
        .map_err(|_| anyhow::anyhow!("the remover panicked"))??;
    let after = words(file.read(&mut [0; 24]));
    Ok(format!("waits: {waits}, read {read}, then {after}"))
}

/// What the driver says of bytes that are no stream, and of a state that is not whole.
fn complaints(site: &Site) -> Result<()> {
    let sorts: [(&str, u64, u32, u32); 3] = [
        ("migration stream: a record of 4 GiB or more", 1 << 32, 0, 0),
        (
            "migration stream: an unknown record that must not be skipped",
            8,
            0,
            0x1234,
        ),
        (
            "migration stream: a record too small for what is in it",
            1,
            0,
            1,
        ),
    ];
    for (complaint, size, flags, tag) in sorts {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::RESUMING)?;
        kmsg::require(complaint, || {
            let written = file.write_all(&header(size, flags, tag));
            ensure!(written.is_err(), "{complaint}: it was taken");
            Ok(())
        })?;
    }
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&[0; 9])?;
    kmsg::require(
        "leaving RESUMING without a complete and valid state; reset the device",
        || {
            ensure!(device.set_state(State::STOP).is_err(), "it was left");
            Ok(())
        },
    )
}

/// Firmware does not destroy what a session leaves: the VF works all the same, and the
/// PF can be reloaded.
fn undestroyed(site: &Site, opcode: u16) -> Result<()> {
    let faults = Faults::open()?;
    faults.arm(Fault::fail(opcode))?;
    kmsg::require(UNDESTROYED, || streams::save(site.vf, 2))?;
    ensure!(faults.fired()? == 1, "it was destroyed");
    faults.arm(Fault::fail(opcode))?;
    let (stream, digest) = streams::save(site.other, 2)?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Pf::find()?.reload()?;
    ensure!(streams::load(site.vf, &stream)? == digest, "another state");
    Ok(())
}

/// Firmware does not destroy the mkey of one image: the session goes on with the next.
fn undestroyed_between(site: &Site) -> Result<()> {
    let (stream, digest) = streams::save(site.other, 2)?;
    let twice = [&stream[..], &stream[SIZE_RECORD..]].concat();
    let faults = Faults::open()?;
    faults.arm(Fault::fail(opcode::DESTROY_MKEY))?;
    let loaded = kmsg::require(UNDESTROYED, || streams::load(site.vf, &twice))?;
    ensure!(loaded == digest, "another state");
    Pf::find()?.reload()?;
    ensure!(streams::load(site.vf, &twice)? == digest, "another state");
    Ok(())
}

/// A PF that is reloaded does not get a VF enabled that is in use. mlx5_core announces
/// that the VF is there, and never that it goes.
fn not_enabled(site: &Site, number: u32) -> Result<()> {
    let faults = Faults::open()?;
    for end in ["the PF is reloaded", "the VF is unbound"] {
        let device = Device::open(site.vf)?;
        let mut file = device.begin(State::STOP_COPY)?;
        file.read_exact(&mut [0; 100])?;
        // After the PF itself, and the VFs before it.
        faults.arm(Fault::fail(opcode::ENABLE_HCA).nth(number + 2))?;
        Pf::find()?.reload()?;
        let seen = [
            words(file.read(&mut [0; 1])),
            device.state()?.to_string(),
            outcome(device.set_state(State::STOP)),
            outcome(device.data_size()),
        ];
        ensure!(
            seen == ["ENODEV", "STOP_COPY", "ok", "ENOTCONN"],
            "{end}: {seen:?}"
        );
        let again = outcome(device.set_state(State::STOP_COPY));
        ensure!(again == "ENOTCONN", "{end}: to STOP_COPY: {again}");
        drop(file);
        if end == "the VF is unbound" {
            drop(device);
            hca::unbind(site.vf)?;
            Pf::find()?.reload()?;
            hca::bind(site.vf, Driver::Rust)?;
        } else {
            Pf::find()?.reload()?;
            drop(device);
        }
        let (stream, digest) = streams::save(site.other, 2)?;
        ensure!(
            streams::load(site.vf, &stream)? == digest,
            "{end}: another state"
        );
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let bench = Bench::new()?;
    // First: the kernel limits the rate of messages.
    results.test("the kernel log says what was wrong", |_| {
        let (vf, other) = bench.of(Driver::Rust);
        complaints(&Site { vf, other })
    });
    compare::both(results, &bench, OBSERVATIONS, DIFFERENCES);
    for (what, opcode) in [
        ("an mkey", opcode::DESTROY_MKEY),
        ("a PD", opcode::DEALLOC_PD),
    ] {
        results.test(&format!("{what} that is not destroyed"), |_| {
            // The rate of messages is limited.
            thread::sleep(Duration::from_secs(5));
            let (vf, other) = bench.of(Driver::Rust);
            undestroyed(&Site { vf, other }, opcode)
        });
    }
    results.test("an mkey that is not destroyed within a session", |_| {
        thread::sleep(Duration::from_secs(5));
        let (vf, other) = bench.of(Driver::Rust);
        undestroyed_between(&Site { vf, other })
    });
    results.test("a reload of the PF that does not enable a VF", |_| {
        let (vf, other) = bench.of(Driver::Rust);
        not_enabled(&Site { vf, other }, 2)
    });
    results.test("a reset in the middle of a save", |_| {
        let (vf, other) = bench.of(Driver::Rust);
        reset_while_saving(&Site { vf, other })
    });
    let removals: [(&str, Removal); 2] = [
        ("the VFs are removed while one is in use", |pf| {
            pf.set_vfs(0)
        }),
        ("the PF's driver is unbound while a VF is in use", |pf| {
            pf.set_bound(false)
        }),
    ];
    for (name, remove) in removals {
        results.test(name, |_| {
            kmsg::expect(PF_UNBIND);
            let mut seen = Vec::new();
            for driver in Driver::BOTH {
                let pf = Pf::find()?;
                if pf.driver().is_err() {
                    pf.set_bound(true)?;
                }
                let (vf, other) = Bench::new()?.of(driver);
                seen.push(pf_removed(&Site { vf, other }, remove)?);
            }
            let pf = Pf::find()?;
            if pf.driver().is_err() {
                pf.set_bound(true)?;
            }
            ensure!(seen[0] == seen[1], "C: {}\nRust: {}", seen[0], seen[1]);
            Ok(())
        });
    }
    Ok(())
}
