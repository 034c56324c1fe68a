// SPDX-License-Identifier: GPL-2.0

//! A VF on which requests are made whose firmware commands fail.

use crate::{
    fault::{
        event,
        opcode,
        Control, //
    },
    hca::{
        self,
        Driver,
        Pf, //
    },
    lie::Lie,
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::{
        AsFd,
        OwnedFd, //
    },
    sync::Arc, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
};

/// Pages of memory of the VF.
const PAGES: u64 = 64;
/// All of them.
const MEMORY: LoggingRange = LoggingRange {
    iova: IOVA,
    length: PAGES * regs::PAGE,
};

/// A VF, and the data file of its session.
pub(in crate::scenarios) struct Session {
    driver: Driver,
    bdf: Bdf,
    /// A stream that can be loaded.
    stream: Arc<[u8]>,
    vf: Option<Vf>,
    file: Option<File>,
}

fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// An error that is not of the device.
pub(in crate::scenarios) fn other(err: anyhow::Error) -> io::Error {
    io::Error::other(format!("{err:#}"))
}

impl Session {
    /// Opens the VF.
    pub(in crate::scenarios) fn open(driver: Driver, bdf: Bdf, stream: Arc<[u8]>) -> Result<Self> {
        Ok(Self {
            driver,
            bdf,
            stream,
            vf: Some(Vf::open(bdf, PAGES)?),
            file: None,
        })
    }

    fn device(&self) -> io::Result<&Device> {
        self.vf.as_ref().map(Vf::device).ok_or_else(closed)
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(closed)
    }

    /// Whether the VF can log DMA.
    pub(in crate::scenarios) fn logs(&self) -> bool {
        self.device().is_ok_and(|device| {
            device.has_feature(uapi::FEATURE_DMA_LOGGING_STOP, uapi::FEATURE_SET)
        })
    }

    /// Another descriptor of the device.
    pub(in crate::scenarios) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.device()?.fd().try_clone_to_owned()
    }

    /// An eventfd that is signalled when an error of PCI Express is reported.
    pub(in crate::scenarios) fn errors(&self) -> Result<OwnedFd> {
        let eventfd = uapi::eventfd()?;
        self.device()?.set_error(&eventfd)?;
        Ok(eventfd)
    }

    /// Asks for a state.
    pub(in crate::scenarios) fn set(&mut self, to: State) -> io::Result<()> {
        let file = uapi::set_state(self.device()?.fd(), to.0)?;
        self.file = file.map(File::from).or(self.file.take());
        Ok(())
    }

    /// Reads what there is to read.
    pub(in crate::scenarios) fn read_all(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.file()?.read_to_end(&mut bytes) {
            Err(err) if err.raw_os_error() == Some(libc::ENOMSG) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Closes the data file of a session that has ended: nothing can be read any more.
    pub(in crate::scenarios) fn close_ended(&mut self) -> io::Result<()> {
        let read = self.read_all();
        self.file = None;
        match read {
            Err(err) if err.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => Err(io::Error::other(format!("a read gives {other:?}"))),
        }
    }

    /// Writes a whole stream.
    pub(in crate::scenarios) fn write_all(&mut self) -> io::Result<()> {
        let stream = self.stream.clone();
        self.file()?.write_all(&stream)
    }

    /// Changes the state of the VF, and creates objects.
    pub(in crate::scenarios) fn work(&mut self) -> io::Result<()> {
        let vf = self.vf.as_ref().ok_or_else(closed)?;
        let work = || {
            vf.command(regs::CMD_CREATE_STATE, &[16, 90])?;
            vf.command(regs::CMD_CHANGE_STATE, &[16, 0])?;
            vf.scatter(PAGES, 5)
        };
        work().map_err(other)
    }

    /// VFIO_MIG_GET_PRECOPY_INFO.
    pub(in crate::scenarios) fn info(&mut self) -> io::Result<()> {
        let file = self.file()?;
        uapi::precopy_info(file.as_fd(), PrecopyInfo::default()).map(drop)
    }

    /// Opts in to version 2 of it.
    pub(in crate::scenarios) fn opt_in(&mut self) -> io::Result<()> {
        let opted_in = self.device()?.opt_in_precopy_info_v2();
        opted_in.map_err(|err| io::Error::other(err.to_string()))
    }

    /// VFIO_DEVICE_FEATURE_MIG_DATA_SIZE.
    pub(in crate::scenarios) fn data_size(&mut self) -> io::Result<()> {
        errno(self.device()?.data_size().map(drop))
    }

    /// Starts DMA logging.
    pub(in crate::scenarios) fn start_logging(&mut self) -> io::Result<()> {
        uapi::logging_start(self.device()?.fd(), regs::PAGE, &[MEMORY]).map(drop)
    }

    /// Asks for a report.
    pub(in crate::scenarios) fn report(&mut self) -> io::Result<()> {
        uapi::logging_report(self.device()?.fd(), MEMORY, regs::PAGE).map(drop)
    }

    /// Has firmware say that the page tracker has changed, with its answer to DATA_SIZE.
    pub(in crate::scenarios) fn change_tracker(&mut self) -> io::Result<()> {
        let (query, change) = (opcode::QUERY_VHCA_MIGRATION_STATE, event::OBJECT_CHANGE);
        let changed = Lie::events(query, change, None, 1);
        let control = Pf::find().and_then(|pf| Control::open(&pf));
        let armed = control.and_then(|control| control.lie(changed.args()));
        armed.map_err(other)?;
        self.data_size()
    }

    /// Stops DMA logging.
    pub(in crate::scenarios) fn stop_logging(&mut self) -> io::Result<()> {
        errno(self.device()?.stop_logging())
    }

    /// VFIO_DEVICE_RESET.
    pub(in crate::scenarios) fn reset(&mut self) -> io::Result<()> {
        errno(self.device()?.reset())
    }

    /// Closes the data file, and the VF.
    pub(in crate::scenarios) fn close(&mut self) -> io::Result<()> {
        self.file = None;
        self.vf = None;
        Ok(())
    }

    /// Takes the VF, which is closed, from its driver.
    pub(in crate::scenarios) fn unbind(&mut self) -> io::Result<()> {
        hca::unbind(self.bdf).map_err(other)
    }

    /// Binds the VF to its driver.
    pub(in crate::scenarios) fn bind(&mut self) -> io::Result<()> {
        hca::bind(self.bdf, self.driver).map_err(other)
    }

    /// Waits for a SAVE that was begun, by reading what it saves. Returns the error of a read.
    pub(in crate::scenarios) fn settle(&mut self) -> io::Result<()> {
        let Ok(device) = self.device() else {
            return Ok(());
        };
        let saving = [State::PRE_COPY, State::PRE_COPY_P2P, State::STOP_COPY];
        match device.state() {
            Ok(state) if saving.contains(&state) && self.file.is_some() => self.read_all(),
            _ => Ok(()),
        }
    }

    /// The state of the VF, in words.
    pub(in crate::scenarios) fn state(&self) -> Result<String> {
        match &self.vf {
            Some(vf) => Ok(vf.device().state()?.to_string()),
            None => Ok("closed".to_string()),
        }
    }

    /// Violations of the firmware interface since power-on.
    pub(in crate::scenarios) fn violations(&self) -> Result<u64> {
        self.vf.as_ref().ok_or_else(closed)?.violations()
    }

    /// Gets the VF to RUNNING by a reset, whatever state it is in, and has it work. A VF
    /// without migration, as its driver could not find out when it was bound, is bound again.
    /// Returns the violations since power-on.
    pub(in crate::scenarios) fn recover(mut self) -> Result<u64> {
        if self.vf.is_none() {
            self.vf = Some(Vf::open(self.bdf, PAGES)?);
        }
        if matches!(self.device()?.features(), Err(Error::NotMigratable { .. })) {
            self.close()?;
            self.unbind()?;
            self.bind()?;
            self.vf = Some(Vf::open(self.bdf, PAGES)?);
        }
        self.reset()?;
        let state = self.device()?.state()?;
        ensure!(state == State::RUNNING, "a reset leads to {state}");
        let vf = self.vf.as_ref().ok_or_else(closed)?;
        let flags = vf.read(regs::FLAGS)? as u32;
        ensure!(flags == 0, "after a reset, the VF has flags {flags:#x}");
        vf.work(1, PAGES)?;
        vf.violations()
    }
}

/// The errno of an error of the library.
fn errno<T>(result: Result<T, Error>) -> io::Result<T> {
    result.map_err(|err| match err.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(err.to_string()),
    })
}
