// SPDX-License-Identifier: GPL-2.0

//! A VF that migrates, with any features of its driver: VFIO asks for no arcs of other features.

use crate::{
    firmware::{
        Command,
        Firmware, //
    },
    image::Image, //
};
use kernel::prelude::*;
use vfio_rust::{
    kernel::fs::anon_inode::OpenFile,
    migration::{
        Migration,
        State,
        StateArc,
        StepError,
        VfioDevice, //
    },
    session::Session, //
};

/// A VF.
#[pin_data]
pub(crate) struct Vf {
    #[pin]
    pub(crate) firmware: Firmware,
    /// Bytes at the beginning of the state that tell which devices can load the rest. They can be
    /// read while the device runs.
    setup: usize,
}

impl Vf {
    /// Makes a VF with a mailbox at offset `base` of a BAR.
    pub(crate) fn new(bar: u32, base: usize, setup: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            firmware <- Firmware::new(bar, base),
            setup,
        })
    }
}

impl Migration for Vf {
    type Sessions = Option<Session<Image>>;
    type Epoch = u32;

    fn epoch(&self) -> u32 {
        self.firmware.epoch()
    }

    fn step(
        &self,
        vdev: &VfioDevice<'_>,
        session: &mut Self::Sessions,
        arc: StateArc,
        epoch: u32,
    ) -> Result<Option<OpenFile>, StepError> {
        use State::*;
        let firmware = self.firmware.enter(vdev, epoch)?;
        let (begun, file) = match (arc.from, arc.to) {
            // None of these devices can stop one kind of DMA alone.
            (Running, RunningP2p | Stop) | (PreCopy, PreCopyP2p) => {
                return firmware.send(Command::SUSPEND).map(|()| None);
            }
            (RunningP2p | Stop, Running) | (PreCopyP2p, PreCopy) => {
                return firmware.send(Command::RESUME).map(|()| None);
            }
            (RunningP2p, Stop) | (Stop, RunningP2p) => return Ok(None),
            (Running, PreCopy) | (RunningP2p, PreCopyP2p) => {
                Session::saving(vdev, Image::running(firmware.save()?, self.setup))?
            }
            (PreCopy | PreCopyP2p, StopCopy) => {
                if arc.from == PreCopy {
                    firmware.send(Command::SUSPEND)?;
                }
                let session = session.as_ref().ok_or(EINVAL);
                let stopped = session.and_then(|saving| {
                    let state = firmware.save()?;
                    saving.with(|image| {
                        image.stop(state);
                        Ok(())
                    })
                });
                return match (stopped, arc.from) {
                    (Ok(()), _) => Ok(None),
                    // A call on the file has the stream: user space may try again.
                    (Err(err), PreCopy) if err == EBUSY => match firmware.send(Command::RESUME) {
                        Ok(()) => Err(err.into()),
                        Err(StepError::Lost(err) | StepError::Unchanged(err)) => {
                            Err(StepError::Lost(err))
                        }
                    },
                    // The device was suspended, so it is not in PRE_COPY any more.
                    (Err(err), PreCopy) => Err(StepError::Lost(err)),
                    (Err(err), _) => Err(err.into()),
                };
            }
            (PreCopy, Running) | (PreCopyP2p, RunningP2p) | (StopCopy, Stop) => {
                *session = None;
                return Ok(None);
            }
            (Stop, StopCopy) => Session::saving(vdev, Image::stopped(firmware.save()?))?,
            (Stop, Resuming) => Session::resuming(vdev, Image::empty())?,
            (Resuming, Stop) => {
                let written = session.as_ref().ok_or(EINVAL)?;
                written.finish(|image| firmware.load(image.bytes()))?;
                *session = None;
                return Ok(None);
            }
            _ => return Err(EINVAL.into()),
        };
        *session = Some(begun);
        Ok(Some(file))
    }

    fn end_sessions(&self, session: &mut Self::Sessions) {
        *session = None;
    }

    fn data_size(&self, vdev: &VfioDevice<'_>) -> Result<u64> {
        let len = self.firmware.enter(vdev, self.epoch())?.state_len()?;
        Ok(len as u64)
    }

    fn reset_prepare(&self) {
        self.firmware.next_epoch();
    }

    fn reset_done(&self) {
        self.firmware.next_epoch();
    }
}
