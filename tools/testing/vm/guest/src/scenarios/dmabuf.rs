// SPDX-License-Identifier: GPL-2.0

//! BARs as dma-bufs: our driver answers as vfio-pci does, and a peer's DMA reaches an
//! exported BAR until the export is revoked.

use super::{
    compare::words,
    NamedRun,
    Vfs, //
};
use crate::{
    hca::{
        self,
        Driver, //
    },
    kmsg,
    sys,
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
    fs::File,
    io::{
        self,
        Seek,
        SeekFrom, //
    },
    os::fd::{
        AsFd,
        AsRawFd,
        BorrowedFd,
        FromRawFd,
        OwnedFd, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    iommu::AddressSpace,
    state::State,
    uapi, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("dmabuf", run)];

/// The driver whose answers are right.
const VFIO_PCI: &str = "vfio-pci";
/// Where a peer has the BAR.
const PEER_IOVA: u64 = 0x2_0000_0000;
/// Bytes of BAR 0.
const BAR: u64 = 1 << 20;
/// Bytes that a peer writes: all scratch registers.
const SCRATCH_LEN: u64 = regs::SCRATCH_COUNT as u64 * 8;
/// What the kernel says of DMA to what is not mapped.
const STRAY_DMA: &str = "DMAR: [DMA";

/// `struct vfio_device_feature_dma_buf` with its header, and a range.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Export {
    argsz: u32,
    feature: u32,
    region: u32,
    open_flags: u32,
    flags: u32,
    ranges: u32,
    offset: u64,
    length: u64,
}

/// Pages of BAR 0 from `offset` on.
const fn bar(offset: u64, length: u64) -> Export {
    part(0, offset, length)
}

/// Pages of a region from `offset` on.
pub const fn part(region: u32, offset: u64, length: u64) -> Export {
    Export {
        argsz: size_of::<Export>() as u32,
        feature: uapi::FEATURE_GET | uapi::FEATURE_DMA_BUF,
        region,
        open_flags: (libc::O_RDWR | libc::O_CLOEXEC) as u32,
        flags: 0,
        ranges: 1,
        offset,
        length,
    }
}

/// Exports; `Ok` is a dma-buf.
pub fn export(device: &Device, mut arg: Export) -> io::Result<File> {
    let fd = uapi::with_struct(device.fd(), uapi::VFIO_DEVICE_FEATURE, &mut arg)?;
    // SAFETY: The kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

const IOMMU_IOAS_UNMAP: libc::c_ulong = 0x3b86;
const IOMMU_IOAS_MAP_FILE: libc::c_ulong = 0x3b8f;

/// `struct iommu_ioas_map_file`.
#[repr(C)]
struct MapFile {
    size: u32,
    flags: u32,
    ioas_id: u32,
    fd: i32,
    start: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_unmap`.
#[repr(C)]
struct Unmap {
    size: u32,
    ioas_id: u32,
    iova: u64,
    length: u64,
}

/// Where a device's DMA goes.
fn ioas(device: &Device) -> Result<(BorrowedFd<'_>, u32)> {
    match device.space() {
        AddressSpace::Ioas { iommufd, id } => Ok((iommufd.as_fd(), *id)),
        AddressSpace::Container(_) => anyhow::bail!("a container maps no dma-buf"),
    }
}

/// Lets a device's DMA get to a dma-buf of a whole BAR.
fn map(device: &Device, buffer: &File) -> Result<io::Result<i32>> {
    let (iommufd, ioas_id) = ioas(device)?;
    let mut map = MapFile {
        size: size_of::<MapFile>() as u32,
        flags: 0b111,
        ioas_id,
        fd: buffer.as_raw_fd(),
        start: 0,
        length: BAR,
        iova: PEER_IOVA,
    };
    Ok(uapi::with_struct(iommufd, IOMMU_IOAS_MAP_FILE, &mut map))
}

fn unmap(device: &Device) -> Result<()> {
    let (iommufd, ioas_id) = ioas(device)?;
    let mut unmap = Unmap {
        size: size_of::<Unmap>() as u32,
        ioas_id,
        iova: PEER_IOVA,
        length: BAR,
    };
    uapi::with_struct(iommufd, IOMMU_IOAS_UNMAP, &mut unmap).context("unmapping")?;
    Ok(())
}

/// What is exported, or asked for without success.
const REQUESTS: &[(&str, Export)] = &[
    ("the BAR", bar(0, BAR)),
    ("its last page", bar(BAR - 0x1000, 0x1000)),
    ("nothing", bar(0, 0)),
    ("half a page", bar(0, 0x800)),
    ("a page from the middle of one on", bar(0x800, 0x1000)),
    ("more than the BAR", bar(0, BAR + 0x1000)),
    ("what is behind the BAR", bar(BAR, 0x1000)),
    (
        "what begins below 2^64",
        bar(0x1000_u64.wrapping_neg(), 0x1000),
    ),
    ("2^64 - 4096 bytes", bar(0, 0x1000_u64.wrapping_neg())),
    (
        "no range",
        Export {
            ranges: 0,
            ..bar(0, BAR)
        },
    ),
    (
        "2^32 - 1 ranges",
        Export {
            ranges: u32::MAX,
            ..bar(0, BAR)
        },
    ),
    (
        "a flag",
        Export {
            flags: 1,
            ..bar(0, BAR)
        },
    ),
    (
        "BAR 1, which is the other half of BAR 0",
        Export {
            region: 1,
            ..bar(0, BAR)
        },
    ),
    (
        "BAR 2, which is not there",
        Export {
            region: 2,
            ..bar(0, BAR)
        },
    ),
    (
        "configuration space",
        Export {
            region: uapi::CONFIG_REGION,
            ..bar(0, 0x1000)
        },
    ),
    (
        "region 2^32 - 1",
        Export {
            region: u32::MAX,
            ..bar(0, BAR)
        },
    ),
    (
        "an argument that is too short",
        Export {
            argsz: 20,
            ..bar(0, BAR)
        },
    ),
    (
        "SET",
        Export {
            feature: uapi::FEATURE_SET | uapi::FEATURE_DMA_BUF,
            ..bar(0, BAR)
        },
    ),
    (
        "PROBE for GET",
        Export {
            feature: uapi::FEATURE_PROBE | uapi::FEATURE_GET | uapi::FEATURE_DMA_BUF,
            ..bar(0, BAR)
        },
    ),
    (
        "PROBE for SET",
        Export {
            feature: uapi::FEATURE_PROBE | uapi::FEATURE_SET | uapi::FEATURE_DMA_BUF,
            ..bar(0, BAR)
        },
    ),
];

/// What a device answers to a request.
fn answer(device: &Device, request: Export) -> String {
    if request.feature & uapi::FEATURE_PROBE != 0 {
        let mut request = request;
        let number = uapi::VFIO_DEVICE_FEATURE;
        let result = uapi::with_struct(device.fd(), number, &mut request);
        return words(result.map(|_| "yes"));
    }
    let size = |mut buffer: File| buffer.seek(SeekFrom::End(0));
    words(
        export(device, request)
            .and_then(size)
            .map(|size| format!("{size} bytes")),
    )
}

/// What a VF answers to all requests.
fn answers(vf: Bdf, driver: &str) -> Result<Vec<String>> {
    hca::bind_to(vf, driver)?;
    let device = Device::open(vf)?;
    let answer = |(_, request): &(&str, Export)| answer(&device, *request);
    Ok(REQUESTS.iter().map(answer).collect())
}

/// Our driver's answers are those of vfio-pci.
fn compare(vfs: (Bdf, Bdf)) -> Result<()> {
    let expected = answers(vfs.0, VFIO_PCI)?;
    let ours = answers(vfs.1, Driver::Rust.sysfs_name())?;
    let mut wrong = Vec::new();
    for (((name, _), expected), ours) in REQUESTS.iter().zip(&expected).zip(&ours) {
        println!("{name}: {expected}, {ours}");
        if expected != ours {
            wrong.push(format!("{name}: {ours}, vfio-pci: {expected}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(ours[0] == format!("{BAR} bytes"), "the BAR: {}", ours[0]);
    let exported = ours.iter().filter(|one| one.ends_with(" bytes")).count();
    ensure!(exported == 2, "{exported} requests of 2 were granted");
    Ok(())
}

/// The C driver exports nothing.
fn refused(vf: Bdf) -> Result<()> {
    let answers = answers(vf, Driver::C.sysfs_name())?;
    for ((name, _), answer) in REQUESTS.iter().zip(answers) {
        ensure!(answer == "EOPNOTSUPP", "{name}: {answer}");
    }
    Ok(())
}

/// A VF whose BAR is exported, and one that writes to it.
struct Pair {
    exporter: Vf,
    buffer: File,
    peer: Vf,
}

impl Pair {
    fn new(exporter: Bdf, peer: Bdf) -> Result<Self> {
        let exporter = Vf::open(exporter, 4)?;
        let peer = Vf::open(peer, 4)?;
        let buffer = export(exporter.device(), bar(0, BAR)).context("exporting")?;
        let pair = Self {
            exporter,
            buffer,
            peer,
        };
        pair.map()?;
        Ok(pair)
    }

    fn map(&self) -> Result<()> {
        map(self.peer.device(), &self.buffer)?.context("mapping")?;
        Ok(())
    }

    /// The scratch registers of the exporter.
    fn scratch(&self) -> Result<Vec<u64>> {
        let register = |i| self.exporter.read(regs::SCRATCH + i * 8);
        (0..regs::SCRATCH_COUNT as u64).map(register).collect()
    }

    /// Has the peer write to them, and returns its status and what it writes.
    fn poke(&self) -> Result<(u32, Vec<u64>)> {
        let iova = PEER_IOVA + regs::BLOCK + regs::SCRATCH;
        let status = self
            .peer
            .try_command(regs::CMD_DMA_WRITE, &[iova, SCRATCH_LEN])?;
        let seq = self.peer.seq()?;
        let word = |i| regs::pattern(seq, iova + i * 8);
        Ok((status, (0..regs::SCRATCH_COUNT as u64).map(word).collect()))
    }

    /// A write of the peer arrives.
    fn reached(&self) -> Result<()> {
        let (status, words) = self.poke()?;
        ensure!(status == regs::STATUS_OK, "the peer's status is {status}");
        let scratch = self.scratch()?;
        ensure!(scratch == words, "{scratch:x?} instead of {words:x?}");
        Ok(())
    }

    /// The IOMMU stops a write of the peer.
    fn stopped(&self) -> Result<()> {
        kmsg::expect(STRAY_DMA);
        let before = self.scratch()?;
        let (status, _) = self.poke()?;
        ensure!(
            status == regs::STATUS_DMA_FAULT,
            "the peer's status is {status}"
        );
        ensure!(self.scratch()? == before, "the write has arrived");
        Ok(())
    }
}

/// Each reset takes the BAR from the peer, until it is mapped again.
fn reset(exporter: Bdf, peer: Bdf) -> Result<()> {
    let pair = Pair::new(exporter, peer)?;
    pair.reached()?;
    for _ in 0..2 {
        pair.exporter.device().reset()?;
        pair.stopped()?;
        unmap(pair.peer.device())?;
        pair.map()?;
        pair.reached()?;
    }
    Ok(())
}

/// Closing the device takes the BAR from the peer, for good. The driver can be unbound
/// while the dma-buf is held.
fn close(exporter: Bdf, driver: &str, peer: Bdf) -> Result<()> {
    let pair = Pair::new(exporter, peer)?;
    pair.reached()?;
    let Pair {
        exporter: vf,
        buffer,
        peer,
    } = pair;
    drop(vf);
    let iova = PEER_IOVA + regs::BLOCK + regs::SCRATCH;
    kmsg::expect(STRAY_DMA);
    let status = peer.try_command(regs::CMD_DMA_WRITE, &[iova, SCRATCH_LEN])?;
    ensure!(
        status == regs::STATUS_DMA_FAULT,
        "the peer's status is {status}"
    );
    unmap(peer.device())?;
    let mapped = words(map(peer.device(), &buffer)?);
    ensure!(mapped == "ENODEV", "mapping it after that: {mapped}");
    hca::unbind(exporter)?;
    hca::bind_to(exporter, driver)?;
    let mapped = words(map(peer.device(), &buffer)?);
    ensure!(
        mapped == "ENODEV",
        "mapping it after another bind: {mapped}"
    );
    Ok(())
}

/// A peer gets to a device that starts no DMA itself any more, which is what RUNNING_P2P
/// is for, and not to one that is stopped. The mapping stays all the while.
fn migrating(exporter: Bdf, peer: Bdf) -> Result<()> {
    let pair = Pair::new(exporter, peer)?;
    let device = pair.exporter.device();
    device.set_state(State::RUNNING_P2P)?;
    pair.reached()?;
    device.set_state(State::STOP)?;
    let before = pair.scratch()?;
    ensure!(pair.poke()?.0 == regs::STATUS_OK, "the mapping is gone");
    ensure!(
        pair.scratch()? == before,
        "a write has changed a stopped VF"
    );
    device.set_state(State::RUNNING)?;
    pair.reached()
}

fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let c = vfs.of(Driver::C);
    let (ours, peer) = vfs.of(Driver::Rust);
    results.test("vfio-pci loads", |_| Ok(sys::load_module("vfio_pci", "")?));
    results.test("the C driver exports nothing", |_| refused(c.0));
    results.test("our driver answers what vfio-pci does", |_| {
        compare((c.1, ours))
    });
    let rust = Driver::Rust.sysfs_name();
    for (vf, driver) in [(c.1, VFIO_PCI), (ours, rust)] {
        let names = [
            format!("{driver}: a reset takes an exported BAR from a peer"),
            format!("{driver}: so does closing the device, for good"),
        ];
        if !Device::kernel_has_iommufd() {
            for name in &names {
                results.skip(name, "the kernel has no iommufd, which maps dma-bufs");
            }
            continue;
        }
        results.test(&names[0], |_| reset(vf, peer));
        results.test(&names[1], |_| close(vf, driver, peer));
    }
    let name = "a peer's writes while the VF is being migrated";
    if Device::kernel_has_iommufd() {
        results.test(name, |_| migrating(ours, peer));
    } else {
        results.skip(name, "the kernel has no iommufd, which maps dma-bufs");
    }
    Ok(())
}
