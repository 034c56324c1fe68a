// SPDX-License-Identifier: GPL-2.0

//! Migrations that firmware must refuse: from an HCA that is a NIC to one that is none, the
//! reverse, between VFs with different numbers of vectors, and of an image that has another
//! version. The source goes on, and the destination is as good as before.

use super::{
    streams,
    NamedRun, //
};
use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
    kmsg,
    records,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs,
    io::Write, //
};
use vfio_mig::{
    bdf::Bdf,
    migrate,
    state::State,
    sysfs,
    target::DeviceTarget, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("unlike", run)];

/// Two VFs of each driver, of each of three HCAs.
const VFS: u16 = 4;
/// What mlx5_core says of a LOAD that firmware has refused.
const REFUSED: &str = "LOAD_VHCA_STATE(0x119) op_mod(0x0) failed, status bad parameter(0x3)";
/// Syndromes that the emulated HCA has for it: Documentation has a table of them.
const VERSION: u32 = 0x10003;
const CAPABILITIES: u32 = 0x10008;
/// What our driver says to do.
const ADVICE: &str = "leaving RESUMING without a complete and valid state; reset the device";
/// Where the configuration space of a VF has how many vectors there are, less one.
const VECTORS_AT: usize = 0x9e;
const VECTORS: u16 = 0x7ff;
/// Where the version is in an image: its second word.
const VERSION_AT: usize = 8;

/// The VFs of an HCA.
struct Own {
    pf: Pf,
    vfs: Vec<Bdf>,
}

impl Own {
    fn new(pf: Pf) -> Result<Self> {
        pf.set_vfs(VFS)?;
        let vfs = pf.vfs()?;
        let drivers = Driver::BOTH.into_iter().cycle();
        for (vf, driver) in vfs.iter().zip(drivers) {
            hca::bind(*vf, driver)?;
        }
        Ok(Self { pf, vfs })
    }

    /// The two VFs of a driver.
    fn of(&self, driver: Driver) -> [Bdf; 2] {
        let first = usize::from(driver == Driver::Rust);
        [self.vfs[first], self.vfs[first + 2]]
    }

    /// Whether it is a NIC.
    fn is_nic(&self) -> bool {
        hca::interface(self.pf.address()).is_ok()
    }
}

/// How many MSI-X vectors a VF has.
fn vectors(vf: Bdf) -> Result<u16> {
    let config = fs::read(sysfs::device_dir(vf).join("config"))?;
    let control = config.get(VECTORS_AT..VECTORS_AT + 2);
    let control = control.context("no configuration space")?;
    Ok((u16::from_le_bytes(control.try_into()?) & VECTORS) + 1)
}

/// What the kernel says of a LOAD that firmware has refused for a reason.
fn refusal(syndrome: u32) -> String {
    format!("{REFUSED}, syndrome ({syndrome:#x}), err(-22)")
}

/// A VF is refused a stream, and is then as it was before.
fn refuses(driver: Driver, vf: Bdf, stream: &[u8], syndrome: u32) -> Result<()> {
    let vf = Vf::open(vf, 16)?;
    let fresh = vf.digest()?;
    let mut file = vf.device().begin(State::RESUMING)?;
    let written = kmsg::require(&refusal(syndrome), || Ok(file.write_all(stream)))?;
    let error = written.err().context("the stream was taken")?;
    ensure!(error.raw_os_error() == Some(libc::EINVAL), "{error}");
    let leave = || {
        let left = vf.device().set_state(State::STOP);
        // The C driver leaves RESUMING as if all was well: see the scenario badinput.
        ensure!(left.is_ok() == (driver == Driver::C), "leaving RESUMING");
        Ok(())
    };
    match driver {
        Driver::C => leave()?,
        Driver::Rust => kmsg::require(ADVICE, leave)?,
    }
    drop(file);
    vf.device().reset()?;
    ensure!(vf.digest()? == fresh, "something of it was loaded");
    goes_on(&vf)
}

/// A VF runs, and works.
fn goes_on(vf: &Vf) -> Result<()> {
    let state = vf.device().state()?;
    ensure!(state == State::RUNNING, "{state}");
    vf.work(2, 16)?;
    for register in [regs::VIOLATIONS, regs::TRACKED_RANGES] {
        let value = vf.read(register)?;
        ensure!(value == 0, "register {register:#x}: {value}");
    }
    Ok(())
}

/// A migration fails, and the source goes on from where it was.
fn does_not_migrate(from: Bdf, to: Bdf) -> Result<()> {
    let (source, destination) = (Vf::open(from, 16)?, Vf::open(to, 16)?);
    source.work(5, 16)?;
    let (digest, fresh) = (source.digest()?, destination.digest()?);
    let error = kmsg::require(&refusal(CAPABILITIES), || {
        let mut target = DeviceTarget::new(destination.device());
        let migrated = migrate::stop_copy(source.device(), &mut target, &mut ());
        migrated.err().context("it has migrated")
    })?;
    let said = format!("{:#}", anyhow::Error::from(error));
    ensure!(said.contains("Invalid argument"), "{said}");
    ensure!(source.digest()? == digest, "the source has changed");
    ensure!(
        destination.digest()? == fresh,
        "something of it was loaded: {said}"
    );
    goes_on(&source)?;
    goes_on(&destination)
}

/// A stream whose first image says that it is of another version.
fn of_another_version(mut stream: Vec<u8>) -> Result<Vec<u8>> {
    let at = records::head(&stream)? + records::HEADER + VERSION_AT;
    let version = stream.get_mut(at..at + 8).context("half an image")?;
    let number = u64::from_le_bytes(version.try_into()?);
    version.copy_from_slice(&(number + 1).to_le_bytes());
    Ok(stream)
}

fn run(results: &mut Results) -> Result<()> {
    let hcas: Vec<Own> = Pf::all()?
        .into_iter()
        .map(Own::new)
        .collect::<Result<_>>()?;
    let (nics, others): (Vec<&Own>, Vec<&Own>) = hcas.iter().partition(|own| own.is_nic());
    let ([nic], [other, small]) = (nics.as_slice(), others.as_slice()) else {
        anyhow::bail!("{} NICs, and {} others", nics.len(), others.len());
    };
    let counts = [nic, other, small].map(|own| vectors(own.vfs[0]));
    ensure!(matches!(counts, [Ok(12), Ok(12), Ok(8)]), "{counts:?}");
    let ways = [
        ("a NIC and where there is none", nic, other),
        ("what is no NIC and a NIC", other, nic),
        ("more vectors and fewer", other, small),
        ("fewer vectors and more", small, other),
    ];
    for driver in Driver::BOTH {
        for (what, from, to) in ways {
            let ([from, _], [to, to_like]) = (from.of(driver), to.of(driver));
            results.test(&format!("{what}, {} driver", driver.name()), |_| {
                does_not_migrate(from, to)?;
                let (stream, _) = streams::save(from, 3)?;
                refuses(driver, to, &stream, CAPABILITIES)?;
                // One of its own kind is taken.
                streams::migrate(to_like, to, 3)
            });
        }
        let [from, to] = nic.of(driver);
        let name = format!("an image of another version, {} driver", driver.name());
        results.test(&name, |_| {
            let (stream, digest) = streams::save(from, 3)?;
            let changed = of_another_version(stream.clone())?;
            refuses(driver, to, &changed, VERSION)?;
            ensure!(streams::load(to, &stream)? == digest, "digests differ");
            Ok(())
        });
    }
    // What is left in an HCA then is a violation.
    results.test("nothing is left in any HCA", |_| {
        for own in &hcas {
            own.pf.set_vfs(0)?;
            own.pf.set_bound(false)?;
        }
        for own in &hcas {
            own.pf.set_bound(true)?;
        }
        Ok(())
    });
    Ok(())
}
