// SPDX-License-Identifier: GPL-2.0

//! A virtual function, and the arcs between its migration states.

use crate::{
    fw::{
        device::{
            Device,
            VfGuard, //
        },
        gate::Epoch,
        tracking::{
            TrackMemory,
            Tracking, //
        },
        vhca::{
            Extent,
            Side, //
        },
    },
    resuming::session::{
        NotFinished,
        Resuming, //
    },
    saving::session::{
        Begin,
        Saving, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};
use vfio_rust::{
    dirty_log::{
        DirtyBitmap,
        DirtyLog,
        IovaRanges, //
    },
    kernel::{
        device::DeviceExt,
        fs::anon_inode::OpenFile, //
    },
    migration::{
        Migration,
        State,
        StateArc,
        StepError,
        VfioDevice, //
    },
    trace::{
        Event,
        Stopwatch,
        Tracer, //
    },
};

/// Data that the arcs and sessions of one VF share.
pub(crate) struct Vf {
    pub(crate) device: Arc<Device>,
    /// The VF, for messages.
    pub(crate) dev: ARef<kernel::device::Device>,
    pub(crate) tracer: Tracer,
    /// The VF is in `PRE_COPY` or `PRE_COPY_P2P`.
    in_precopy: AtomicFlag,
}

impl Vf {
    /// Returns a guard to send commands to the VF. Returns `ENOTCONN` if the PF takes no commands,
    /// `ECANCELED` if the VF was reset since `epoch`.
    pub(crate) fn enter(&self, epoch: Epoch) -> Result<VfGuard<'_>> {
        Device::enter_vf(&self.device, epoch)
    }

    /// Returns whether the VF is in `PRE_COPY` or `PRE_COPY_P2P`.
    pub(crate) fn in_precopy(&self) -> bool {
        self.in_precopy.load(Relaxed)
    }
}

/// Whether commands may be sent for a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Commands may be sent.
    Allowed,
    /// The session has ended.
    Ended,
}

/// The session of a VF.
pub(crate) enum VfSession {
    /// No session.
    Idle,
    /// `PRE_COPY`, `PRE_COPY_P2P` and `STOP_COPY`: the saving group of states.
    Saving(Saving),
    /// `RESUMING`.
    Resuming(Resuming),
}

impl VfSession {
    /// Returns the saving session, or `ENODEV` if there is none. Every arc from a saving state has
    /// one.
    fn saving(&self) -> Result<&Saving> {
        match self {
            Self::Saving(saving) => Ok(saving),
            _ => Err(ENODEV),
        }
    }
}

/// Migration of one VF.
#[pin_data]
pub(crate) struct VfMigration {
    vf: Arc<Vf>,
    /// The running tracker. The lock is held while firmware commands start a tracker, but not while
    /// memory for it is allocated.
    ///
    /// The lock is taken by requests to start, to stop and to report, and when user space closes
    /// the device, which is after its last request. An arc, a reset, a query of the state and a
    /// notification of the PF do not take it.
    #[pin]
    tracking: Mutex<Option<Arc<Tracking>>>,
}

/// Converts the error of a command to that of a step. The device is lost if mlx5_core has stopped
/// waiting for the command: firmware may still carry it out.
pub(crate) fn unknown_is_lost(err: Error) -> StepError {
    if err == ETIMEDOUT {
        StepError::Lost(err)
    } else {
        StepError::Unchanged(err)
    }
}

impl VfMigration {
    /// Makes the migration of the VF of `device`.
    pub(crate) fn new(
        dev: &kernel::device::Device,
        device: Arc<Device>,
    ) -> Result<impl PinInit<Self>> {
        let vf = Vf {
            device,
            dev: dev.into(),
            tracer: Tracer::about(dev),
            in_precopy: AtomicFlag::new(false),
        };
        let vf = Arc::new(vf, GFP_KERNEL)?;
        Ok(pin_init!(Self {
            vf,
            tracking <- new_mutex!(None, "mlx5_vfio_rust_tracking"),
        }))
    }

    /// Returns whether firmware can track what the VF writes.
    pub(crate) fn can_track(&self) -> bool {
        self.vf.device.can_track()
    }

    /// Ends tracking, and a report that is under way.
    pub(crate) fn end_tracking(&self) {
        let tracking = self.tracking.lock().take();
        if let Some(tracking) = tracking {
            tracking.stop();
        }
    }

    fn suspend(&self, guard: &VfGuard<'_>, side: Side) -> Result<(), StepError> {
        guard.suspend(side).map_err(unknown_is_lost)
    }

    fn resume(&self, guard: &VfGuard<'_>, side: Side) -> Result<(), StepError> {
        guard.resume(side).map_err(unknown_is_lost)
    }

    /// `PRE_COPY_P2P -> STOP_COPY`: stops the device, and saves it. If it cannot be saved,
    /// it is started again.
    fn stop_and_copy(&self, saving: &Saving, epoch: Epoch) -> Result<(), StepError> {
        let idle = saving.idle()?;
        idle.check()?;
        // Keep the guard until this returns, so that the PF does not go before the device is being
        // saved, or runs again.
        let guard = self.vf.enter(epoch)?;
        self.suspend(&guard, Side::Responder)?;
        idle.save_stopped()
            .map_err(|err| match guard.resume(Side::Responder) {
                Ok(()) => StepError::Unchanged(err),
                Err(_) => StepError::Lost(err),
            })
    }

    /// Leaves `RESUMING`.
    ///
    /// The device is lost unless the state that was loaded was complete: "If the user provided data
    /// is found to be incomplete, inconsistent, or otherwise invalid, the migration driver must
    /// fail the SET_STATE ioctl and optionally go to the ERROR state" (include/uapi/linux/vfio.h).
    fn finish_resuming(&self, session: &mut VfSession, epoch: Epoch) -> Result<(), StepError> {
        let finished = match session {
            VfSession::Resuming(resuming) => resuming.finish(),
            _ => Err(NotFinished::Failed(EIO)),
        };
        match finished {
            Ok(()) => *session = VfSession::Idle,
            Err(NotFinished::GoesOn(err)) => return Err(err.into()),
            Err(NotFinished::Failed(err)) => {
                *session = VfSession::Idle;
                // Do not blame the stream if the VF was reset, or the PF went.
                if self.vf.device.is_current(epoch) {
                    self.vf.dev.warn_ratelimited(
                        c"leaving RESUMING without a complete and valid state; reset the device",
                    );
                }
                return Err(StepError::Lost(err));
            }
        }
        Ok(())
    }

    /// Carries out an arc. The caller sets `in_precopy`, as for all arcs.
    fn carry_out(
        &self,
        vdev: &VfioDevice<'_>,
        session: &mut VfSession,
        arc: StateArc,
        epoch: Epoch,
    ) -> Result<Option<OpenFile>, StepError> {
        use State::{
            PreCopy,
            PreCopyP2p,
            Resuming as Loading,
            Running,
            RunningP2p,
            Stop,
            StopCopy, //
        };
        let enter = || self.vf.enter(epoch);
        match (arc.from, arc.to) {
            (Running, RunningP2p) => self.suspend(&enter()?, Side::Initiator)?,
            (RunningP2p, Running) => self.resume(&enter()?, Side::Initiator)?,
            (PreCopy, PreCopyP2p) => {
                let idle = session.saving()?.idle()?;
                self.suspend(&enter()?, Side::Initiator)?;
                idle.set_suspended(true);
            }
            (PreCopyP2p, PreCopy) => {
                let idle = session.saving()?.idle()?;
                self.resume(&enter()?, Side::Initiator)?;
                idle.set_suspended(false);
            }
            (RunningP2p, Stop) => self.suspend(&enter()?, Side::Responder)?,
            (Stop, RunningP2p) => self.resume(&enter()?, Side::Responder)?,
            (Stop, StopCopy) | (Running, PreCopy) | (RunningP2p, PreCopyP2p) => {
                let begin = match arc.from {
                    Running => Begin::Running,
                    RunningP2p => Begin::RunningP2p,
                    _ => Begin::Stopped,
                };
                let (saving, file) = Saving::new(&self.vf, vdev, epoch, begin)?;
                *session = VfSession::Saving(saving);
                return Ok(Some(file));
            }
            (PreCopy, Running) | (PreCopyP2p, RunningP2p) => {
                session.saving()?.idle()?.end_tracking()?;
                *session = VfSession::Idle;
            }
            (PreCopyP2p, StopCopy) => self.stop_and_copy(session.saving()?, epoch)?,
            (StopCopy, Stop) => *session = VfSession::Idle,
            (Stop, Loading) => {
                let (resuming, file) = Resuming::new(&self.vf, vdev, epoch)?;
                *session = VfSession::Resuming(resuming);
                return Ok(Some(file));
            }
            (Loading, Stop) => self.finish_resuming(session, epoch)?,
            // vfio_mig_get_next_state() only returns arcs that the device's migration flags allow.
            _ => return Err(EINVAL.into()),
        }
        Ok(None)
    }
}

impl Migration for VfMigration {
    type Sessions = VfSession;
    type Epoch = Epoch;

    fn epoch(&self) -> Epoch {
        self.vf.device.epoch()
    }

    fn step(
        &self,
        vdev: &VfioDevice<'_>,
        session: &mut VfSession,
        arc: StateArc,
        epoch: Epoch,
    ) -> Result<Option<OpenFile>, StepError> {
        let file = self.carry_out(vdev, session, arc, epoch)?;
        let in_precopy = matches!(arc.to, State::PreCopy | State::PreCopyP2p);
        self.vf.in_precopy.store(in_precopy, Relaxed);
        Ok(file)
    }

    fn end_sessions(&self, session: &mut VfSession) {
        self.vf.in_precopy.store(false, Relaxed);
        *session = VfSession::Idle;
    }

    fn data_size(&self, _vdev: &VfioDevice<'_>) -> Result<u64> {
        let guard = self.vf.enter(self.vf.device.epoch())?;
        Ok(guard.query_state(Extent::Whole)?.total)
    }

    fn reset_prepare(&self) {
        self.vf.device.reset_prepare();
    }

    fn reset_done(&self) {
        self.vf.in_precopy.store(false, Relaxed);
        self.vf.device.reset_done();
    }
}

impl DirtyLog for VfMigration {
    fn start(&self, _vdev: &VfioDevice<'_>, ranges: IovaRanges<'_>, page_size: u64) -> Result<u64> {
        let check = |tracking: &Option<Arc<Tracking>>| match tracking {
            Some(old) if !old.has_ended() => Err(EINVAL),
            _ => Ok(()),
        };
        check(&self.tracking.lock())?;
        let memory = TrackMemory::new(&self.vf.device)?;
        let mut tracking = self.tracking.lock();
        // Another thread may have started a tracker while memory was allocated.
        check(&tracking)?;
        let new = Tracking::start(&self.vf.device, memory, ranges, page_size)?;
        let tracked = new.page_size();
        *tracking = Some(new);
        Ok(tracked)
    }

    fn stop(&self, _vdev: &VfioDevice<'_>) {
        self.end_tracking();
    }

    fn report(&self, _vdev: &VfioDevice<'_>, dirty: &mut DirtyBitmap<'_>) -> Result {
        let tracking = self.tracking.lock().clone();
        let tracking = tracking.filter(|tracking| !tracking.has_ended());
        let tracking = tracking.ok_or(EINVAL)?;
        let time = Stopwatch::start(Event::DirtyReport);
        let mut bytes = 0u64;
        let reported = tracking.report(dirty, &mut bytes);
        self.vf.tracer.dirty_report(bytes, &reported, time);
        reported.inspect_err(|err| {
            if *err == ETIMEDOUT {
                let what = c"the page tracker does not answer; stop DMA logging";
                self.vf.dev.warn_ratelimited(what);
            }
        })
    }
}
