// SPDX-License-Identifier: GPL-2.0

//! A virtual function: its migration state, and the arcs between states.

use crate::{
    buffers::Device,
    mlx5::{
        core_dev::CoreDev,
        notifier::{VfEvents, VfNotifier},
        tracking::Tracking,
        vhca::{Extent, Side},
    },
    resume::{ResumeFile, ResumingSession},
    save::{SaveFile, SavingSession},
    vfio::{
        dirty_log::{DirtyBitmap, DirtyLog, IovaRanges},
        file::{OpenFile, PrecopyInfo},
        log::Complaints,
        migration::{Machine, Migration, State, StateArc, TargetState, VfioDevice},
        pages::Pages,
        pci::BoundDevice,
        state_lock::{Reset, StateGuard, StateLock},
        trace::{Since, Tracer},
        workqueue::OrderedQueue,
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// The data transfer that a state stands for.
enum Session {
    /// None.
    Idle,
    /// `PRE_COPY`, `PRE_COPY_P2P` and `STOP_COPY`: the saving group of states.
    Saving(SavingSession),
    /// `RESUMING`.
    Resuming(ResumingSession),
}

/// What the state lock guards. Firmware commands are sent with it held.
struct MigrationState {
    state: State,
    session: Session,
    tracking: Option<Arc<Tracking>>,
}

impl MigrationState {
    /// Ends DMA logging. The PF must take commands.
    fn end_tracking(&mut self) {
        if let Some(tracking) = self.tracking.take() {
            tracking.stop();
        }
    }
}

impl Reset for MigrationState {
    fn reset(&mut self) {
        self.session = Session::Idle;
        self.state = State::Running;
    }
}

/// Migration of one VF.
#[pin_data]
pub(crate) struct VfMigration {
    core: Arc<CoreDev>,
    /// Where to say what user space did wrong.
    pub(crate) complaints: Complaints,
    /// Where to say what goes on.
    pub(crate) tracer: Tracer,
    /// Where commands end.
    queue: Arc<OrderedQueue>,
    #[pin]
    state: StateLock<MigrationState>,
    /// Refers back to this object; taken out when the driver is unbound.
    #[pin]
    notifier: Mutex<Option<Pin<KBox<VfNotifier<VfMigration>>>>>,
}

impl VfMigration {
    /// Migration of the VF behind `core`, with the PF's notifications.
    pub(crate) fn new(dev: &BoundDevice<'_>, core: Arc<CoreDev>) -> Result<Arc<Self>> {
        let notified = core.clone();
        let complaints = Complaints::about(dev)?;
        let tracer = Tracer::about(dev)?;
        let queue = Arc::new(OrderedQueue::new(c"mlx5_vfio_rust")?, GFP_KERNEL)?;
        let migration = Arc::pin_init(
            pin_init!(Self {
                core,
                complaints,
                tracer,
                queue,
                state <- StateLock::new(MigrationState {
                    state: State::Running,
                    session: Session::Idle,
                    tracking: None,
                }),
                notifier <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let notifier = VfNotifier::new(notified, migration.clone())?;
        *migration.notifier.lock() = Some(notifier);
        Ok(migration)
    }

    /// User space has opened the device.
    pub(crate) fn opened(&self) {
        self.state.lock().state = State::Running;
    }

    /// User space is closing the device. The state stays, and with it the arcs
    /// that lead out of it.
    pub(crate) fn closing(&self) {
        let mut state = self.state.lock();
        state.session = Session::Idle;
        state.end_tracking();
    }

    /// Whether firmware can track what the VF writes.
    pub(crate) fn can_track(&self) -> bool {
        self.core.can_track()
    }

    /// The device has been reset.
    pub(crate) fn reset_done(&self) {
        self.state.reset();
    }

    /// No notification comes after this, and no end of a command.
    pub(crate) fn unbind(&self) {
        let notifier = self.notifier.lock().take();
        // Without the lock: waits for a notification under way.
        drop(notifier);
        self.queue.flush();
        // A data file may keep this object for longer than the PF is there.
        let _state = self.state.lock();
        self.core.set_attached(false);
    }

    /// Where work of sessions is done.
    pub(crate) fn queue(&self) -> &Arc<OrderedQueue> {
        &self.queue
    }

    /// Takes the state lock at a time when no session has a command under way
    /// that firmware does by itself. Waits without the lock.
    fn settled(&self) -> Result<StateGuard<'_, MigrationState>> {
        loop {
            let state = self.state.lock();
            match &state.session {
                Session::Saving(session) => {
                    let Some(file) = session.busy_file().cloned() else {
                        return Ok(state);
                    };
                    drop(state);
                    file.wait_idle()?;
                }
                Session::Resuming(session) => {
                    let Some(file) = session.busy_file().cloned() else {
                        return Ok(state);
                    };
                    drop(state);
                    ResumeFile::wait_idle(file.as_arc_borrow())?;
                }
                Session::Idle => return Ok(state),
            }
        }
    }

    /// VFIO_MIG_GET_PRECOPY_INFO on `file`.
    ///
    /// "This ioctl is valid only in PRE_COPY states and kernel driver should
    /// return -EINVAL from any other migration state"
    /// (include/uapi/linux/vfio.h).
    pub(crate) fn precopy_info(&self, file: &SaveFile) -> Result<PrecopyInfo> {
        let mut inner = self.state.lock();
        if matches!(inner.state, State::PreCopy | State::PreCopyP2p) {
            drop(inner);
            inner = self.settled()?;
        }
        let suspended = match inner.state {
            State::PreCopy => false,
            State::PreCopyP2p => true,
            _ => return Err(EINVAL),
        };
        match &inner.session {
            Session::Saving(session) if session.is_of(file) => {
                let info = session.precopy_info(&self.core, suspended);
                info.inspect(|info| self.tracer.precopy_info(info))
            }
            _ => Err(ENODEV),
        }
    }

    /// Saves the next piece of the stopped device, if that is still due.
    pub(crate) fn save_next_piece(&self, file: &SaveFile) {
        if let Session::Saving(session) = &self.state.lock().session {
            if session.is_of(file) {
                session.save_next_piece(&self.core);
            }
        }
    }

    /// Has firmware load an image that `file` received. `ENODEV` where the
    /// session of that file has ended.
    pub(crate) fn load(&self, file: &ResumeFile, image: &Pages, len: usize) -> Result {
        let state = self.state.lock();
        match &state.session {
            Session::Resuming(session) if session.is_of(file) => {
                let since = Since::now();
                self.tracer.load_begins(len as u64);
                let loaded = session.load(&self.core, image, len);
                self.tracer.load_ends(len as u64, &loaded, since);
                loaded
            }
            _ => Err(ENODEV),
        }
    }
}

/// The state machine, while the lock is held.
struct VfMachine<'a> {
    migration: &'a Arc<VfMigration>,
    vdev: &'a VfioDevice<'a>,
    inner: &'a mut MigrationState,
}

impl VfMachine<'_> {
    fn begin_saving(&mut self, device: Device) -> Result<OpenFile> {
        let migration = self.migration;
        let vdev = self.vdev.to_ref();
        let (session, open) = SavingSession::new(&migration.core, migration, vdev, device)?;
        self.inner.session = Session::Saving(session);
        Ok(open)
    }

    /// `PRE_COPY_P2P -> STOP_COPY`: one arc for two things, of which the first
    /// is undone where the second fails.
    fn stop_and_copy(&mut self) -> Result {
        let core = &self.migration.core;
        let Session::Saving(session) = &self.inner.session else {
            // The PF went away meanwhile.
            return Err(ENODEV);
        };
        session.check()?;
        core.suspend(Side::Responder)?;
        session.save_stopped(core).inspect_err(|_| {
            if core.resume(Side::Responder).is_err() {
                self.inner.state = State::Error;
            }
        })
    }

    /// Leaves `RESUMING`.
    ///
    /// What was loaded counts only if it was complete: "If the user provided
    /// data is found to be incomplete, inconsistent, or otherwise invalid, the
    /// migration driver must fail the SET_STATE ioctl and optionally go to the
    /// ERROR state" (include/uapi/linux/vfio.h).
    fn finish_resuming(&mut self) -> Result {
        let complete = match &self.inner.session {
            Session::Resuming(session) => session.check_complete(),
            // The PF went away, and took what was loaded with it.
            _ => Err(EIO),
        };
        if complete == Err(EBUSY) {
            // Nothing is lost: the writer can finish.
            return complete;
        }
        self.inner.session = Session::Idle;
        complete.inspect_err(|_| {
            self.migration
                .complaints
                .warn(c"leaving RESUMING without a complete and valid state; reset the device");
            self.inner.state = State::Error;
        })
    }
}

impl Machine for VfMachine<'_> {
    fn state(&self) -> State {
        self.inner.state
    }

    fn step(&mut self, arc: StateArc) -> Result<Option<OpenFile>> {
        use State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
        let core = &self.migration.core;
        let mut file = None;
        match (arc.from, arc.to) {
            (Running, RunningP2p) | (PreCopy, PreCopyP2p) => core.suspend(Side::Initiator)?,
            (RunningP2p, Running) | (PreCopyP2p, PreCopy) => core.resume(Side::Initiator)?,
            (RunningP2p, Stop) => core.suspend(Side::Responder)?,
            (Stop, RunningP2p) => core.resume(Side::Responder)?,
            (Stop, StopCopy) => file = Some(self.begin_saving(Device::Stopped)?),
            (Running, PreCopy) | (RunningP2p, PreCopyP2p) => {
                file = Some(self.begin_saving(Device::Running)?);
            }
            (PreCopy, Running) | (PreCopyP2p, RunningP2p) => {
                if let Session::Saving(session) = &self.inner.session {
                    session.end_tracking(core)?;
                }
                self.inner.session = Session::Idle;
            }
            (PreCopyP2p, StopCopy) => self.stop_and_copy()?,
            (StopCopy, Stop) => self.inner.session = Session::Idle,
            (Stop, Resuming) => {
                let (session, open) = ResumingSession::new(core, self.migration.clone())?;
                self.inner.session = Session::Resuming(session);
                file = Some(open);
            }
            (Resuming, Stop) => self.finish_resuming()?,
            // vfio_mig_get_next_state() only gives arcs that the device's
            // migration flags have.
            _ => return Err(EINVAL),
        }
        self.inner.state = arc.to;
        Ok(file)
    }
}

impl Migration for Arc<VfMigration> {
    fn set_state(&self, vdev: &VfioDevice<'_>, target: TargetState) -> Result<Option<OpenFile>> {
        let mut inner = self.settled()?;
        let mut machine = VfMachine {
            migration: self,
            vdev,
            inner: &mut inner,
        };
        vdev.walk(&mut machine, target)
    }

    fn state(&self) -> State {
        self.state.lock().state
    }

    fn data_size(&self) -> Result<u64> {
        let _commands = self.state.lock();
        Ok(self.core.query_state(Extent::Whole)?.total)
    }
}

impl DirtyLog for Arc<VfMigration> {
    fn start(&self, ranges: IovaRanges<'_>, page_size: u64) -> Result<u64> {
        let mut state = self.state.lock();
        if state.tracking.is_some() {
            return Err(EINVAL);
        }
        let tracking = Tracking::start(&self.core, ranges, page_size)?;
        let tracked = tracking.page_size();
        state.tracking = Some(tracking);
        Ok(tracked)
    }

    fn stop(&self) {
        self.state.lock().end_tracking();
    }

    fn report(&self, dirty: &mut DirtyBitmap<'_>) -> Result {
        // Reports without the state lock: user memory may take its time.
        let tracking = self.state.lock().tracking.clone().ok_or(EINVAL)?;
        let since = Since::now();
        let mut bytes = 0u64;
        let reported = tracking.report(dirty.range(), |addr, len| {
            bytes = bytes.saturating_add(len);
            dirty.set(addr, len);
        });
        self.tracer.dirty_report(bytes, &reported, since);
        reported.inspect_err(|err| {
            if *err == ETIMEDOUT {
                let what = c"the page tracker does not answer; stop DMA logging";
                self.complaints.warn(what);
            }
        })
    }
}

impl VfEvents for VfMigration {
    fn enabled(&self) {
        let _state = self.state.lock();
        self.core.set_attached(true);
    }

    fn disabled(&self) {
        let mut state = self.state.lock();
        // Needs the PF, so it comes first.
        state.session = Session::Idle;
        state.end_tracking();
        self.core.set_attached(false);
    }
}
