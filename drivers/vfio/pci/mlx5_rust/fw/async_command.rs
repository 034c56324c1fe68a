// SPDX-License-Identifier: GPL-2.0

//! A command that is sent without waiting for its end.
//!
//! mlx5_core calls back in an interrupt, which only stores the status and wakes waiters. The next
//! call that waits, polls, reads or writes takes the result. So no work is queued, which could run
//! late.

use super::{
    bindings::{
        self, //
        mlx5_async_ctx,
        mlx5_async_work,
        mlx5_cmd_cleanup_async_ctx,
        mlx5_cmd_init_async_ctx,
    },
    bits::Value,
    device::{
        Device,
        PfGuard,
        VfGuard, //
    },
    ifc::{
        field,
        mailbox,
        Mailbox, //
    },
    registry::{
        Owned,
        Resource, //
    }, //
};
use core::cell::UnsafeCell;
use kernel::{
    container_of,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};
use vfio_rust::{
    kernel::sync::{
        changes::Changes,
        wait::Phase, //
    },
    trace::Stopwatch, //
};

/// Nothing is under way.
const IDLE: u32 = 0;
/// A command is being sent, or is under way.
const BUSY: u32 = 1;
/// A command has ended, and nobody has taken its result.
const DONE: u32 = 2;
/// A thread is taking the result.
const TAKING: u32 = 3;
/// Nothing can be sent any more.
const ENDED: u32 = 4;

/// Sends commands, one at a time, whose output has the layout `L`.
///
/// # Invariants
///
/// - `context` is initialised, and is cleaned up after `phase` has become `ENDED`.
/// - `phase` tells who owns `output` and `started`:
///   - `BUSY`: the thread that has changed `phase` from `IDLE`, and mlx5_core once that thread has
///     sent the command, until the callback sets `DONE`;
///   - `TAKING`: the thread that has changed `phase` from `DONE`, until that thread sets `IDLE`;
///   - else: nobody.
#[pin_data]
pub(super) struct AsyncCommand<L: 'static, const OUT: usize> {
    #[pin]
    phase: Phase,
    status: Atomic<c_int>,
    /// Nanoseconds that the last command took.
    took: Atomic<i64>,
    started: UnsafeCell<Stopwatch>,
    output: UnsafeCell<Mailbox<L, OUT>>,
    waiters: Arc<Changes>,
    #[pin]
    context: Opaque<mlx5_async_ctx>,
    #[pin]
    work: Opaque<mlx5_async_work>,
}

// SAFETY: By the type invariants, `phase` orders the use of everything that is not Send by itself.
// `L` is only a marker for the layout of bytes.
unsafe impl<L, const OUT: usize> Send for AsyncCommand<L, OUT> {}
// SAFETY: By the type invariants, `phase` orders the use of everything that is not Sync by itself.
// `L` is only a marker for the layout of bytes.
unsafe impl<L, const OUT: usize> Sync for AsyncCommand<L, OUT> {}

/// The result of a command that has ended.
pub(super) struct Ended<L, const OUT: usize> {
    /// The result that mlx5_core derives from the command's status.
    pub(super) result: Result,
    pub(super) output: Mailbox<L, OUT>,
    /// Nanoseconds that the command took.
    pub(super) took: i64,
}

impl<L, const OUT: usize> AsyncCommand<L, OUT> {
    /// Prepares to send commands about the VF of `pf`. `waiters` are notified when a command ends.
    pub(super) fn new(pf: &PfGuard<'_>, waiters: Arc<Changes>) -> Result<Owned<Self>> {
        let mdev = pf.mdev();
        Owned::pinned(
            pf,
            try_pin_init!(Self {
                phase <- Phase::new(IDLE),
                status: Atomic::new(0),
                took: Atomic::new(0),
                started: UnsafeCell::new(Stopwatch::unused()),
                output: UnsafeCell::new(Mailbox::new()),
                waiters,
                context <- Opaque::ffi_init(|slot| {
                    // SAFETY: `mdev` is valid: `pf` is a guard of it. `slot` is
                    // valid for writes of a context, which is not moved afterwards.
                    unsafe { mlx5_cmd_init_async_ctx(mdev, slot) }
                }),
                work <- Opaque::ffi_init(|slot: *mut mlx5_async_work| {
                    // SAFETY: `slot` is valid for writes of a `mlx5_async_work`.
                    unsafe { slot.write(pin_init::zeroed()) }
                }),
            }),
        )
    }

    /// Notes the end of the command. May be called from an interrupt.
    fn finish(&self, status: c_int) {
        // SAFETY: `phase` is `BUSY`, and the command has ended: this call owns `started` until
        // `phase` changes (type invariant).
        let took = unsafe { *self.started.get() }.ns();
        self.took.store(took, Relaxed);
        self.status.store(status, Relaxed);
        // INVARIANT: The output is complete, and mlx5_core does not use it any more.
        self.phase.set(DONE);
        self.waiters.notify_all();
    }

    /// # Safety
    ///
    /// Must only be called by mlx5_core, once for a command that `send` has sent, with its `work`.
    unsafe extern "C" fn callback(status: c_int, work: *mut mlx5_async_work) {
        // SAFETY: `work` is the field of an `AsyncCommand` (requirements of this
        // function), which stays until its context was cleaned up; that waits for
        // the end of this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(work), Self, work) };
        this.finish(status);
    }

    /// Returns whether nothing can be sent any more.
    pub(super) fn has_ended(&self) -> bool {
        self.phase.get() == ENDED
    }

    /// Waits until no command is under way. Returns `ERESTARTSYS` if a signal comes first.
    pub(super) fn wait(&self) -> Result {
        self.phase.wait_while_interruptible(BUSY)
    }

    /// Takes status and output of the last command, if it has ended and nobody has
    /// taken them.
    fn take_output(&self) -> Option<(c_int, Mailbox<L, OUT>, i64)> {
        if !self.phase.advance(DONE, TAKING) {
            return None;
        }
        // SAFETY: `phase` is `TAKING` because of this call, so this call owns `output` (type
        // invariant). It is initialised, and any bytes are a valid mailbox.
        let output = unsafe { self.output.get().read() };
        let status = self.status.load(Relaxed);
        let took = self.took.load(Relaxed);
        self.phase.set(IDLE);
        Some((status, output, took))
    }
}

impl<L: 'static, const OUT: usize> Owned<AsyncCommand<L, OUT>> {
    /// Sends a command to the VF of `guard`; `time` began just before. Returns `EBUSY` if the
    /// result of the command before it was not taken, `ENODEV` if this object was made for another
    /// PF, or has ended.
    ///
    /// If mlx5_core cannot take an asynchronous command right now, this waits for
    /// the end of a synchronous one.
    pub(super) fn send<I, const IN: usize>(
        &self,
        guard: &VfGuard<'_>,
        input: &mut Mailbox<I, IN>,
        time: Stopwatch,
    ) -> Result {
        // `phase` tells whether this object has ended, so the registry need not be asked.
        let this: &AsyncCommand<L, OUT> = self;
        if !self.is_for(guard) || this.has_ended() {
            return Err(ENODEV);
        }
        if !this.phase.advance(IDLE, BUSY) {
            return Err(EBUSY);
        }
        // SAFETY: `phase` is `BUSY` because of this call, so this call owns `started` (type
        // invariant).
        unsafe { *this.started.get() = time };
        let (len, out_len) = (IN as c_int, OUT as c_int);
        // SAFETY: `context` is initialised, and not cleaned up while `phase` is `BUSY` (type
        // invariant). `input` is `IN` bytes long, and copied before the call returns. `output`
        // begins with `OUT` aligned bytes. This call owns them and `work`, and then mlx5_core does
        // until the callback (type invariant). Both stay where they are until the context was
        // cleaned up, which waits for the callback.
        let status = unsafe {
            bindings::mlx5_cmd_exec_cb(
                this.context.get(),
                input.bytes.as_mut_ptr().cast(),
                len,
                this.output.get().cast(),
                out_len,
                Some(AsyncCommand::<L, OUT>::callback),
                this.work.get(),
            )
        };
        let no_room = [ENOMEM, EBUSY, EAGAIN].map(Error::to_errno);
        if no_room.contains(&status) {
            // SAFETY: `mdev` is valid: `guard` is a guard of it. `input` is `IN` bytes long.
            // `output` begins with `OUT` aligned bytes, which this call still owns (type
            // invariant): nothing was sent.
            let status = unsafe {
                bindings::mlx5_cmd_do(
                    guard.mdev(),
                    input.bytes.as_mut_ptr().cast(),
                    len,
                    this.output.get().cast(),
                    out_len,
                )
            };
            this.finish(status);
            return Ok(());
        }
        if status != 0 {
            // INVARIANT: Nothing was sent.
            this.phase.set(IDLE);
        }
        kernel::error::to_result(status)
    }

    /// Takes the result of the last command, whose opcode was `opcode`, if it has
    /// ended and nobody has taken it. If firmware has refused it, mlx5_core logs
    /// status and syndrome.
    pub(super) fn take(&self, opcode: impl Value) -> Option<Ended<L, OUT>> {
        let (status, mut output, took) = self.take_output()?;
        let check = |pf: PfGuard<'_>| {
            // All commands begin with the fields of NOP.
            let mut input = mailbox!(mlx5_ifc_nop_in_bits)
                .try_set(field!(mlx5_ifc_nop_in_bits, opcode), opcode)?;
            // SAFETY: `mdev` is valid: `pf` is a guard of it. Input and output begin
            // with the headers that all commands have, and are local.
            kernel::error::to_result(unsafe {
                bindings::mlx5_cmd_check(
                    pf.mdev(),
                    status,
                    input.bytes.as_mut_ptr().cast(),
                    output.bytes.as_mut_ptr().cast(),
                )
            })
        };
        let result = match status {
            // -EREMOTEIO if only the status in the output says that it has failed.
            0 => Ok(()),
            _ => Device::enter(self.device()).and_then(check),
        };
        Some(Ended {
            result,
            output,
            took,
        })
    }
}

impl<L: 'static, const OUT: usize> Resource for AsyncCommand<L, OUT> {
    fn destroy(&self, _pf: &PfGuard<'_>) -> Result {
        loop {
            let phase = self.phase.get();
            match phase {
                // mlx5_core ends commands that time out, and all of them when the PF fails. Taking
                // a result is short.
                BUSY | TAKING => self.phase.wait_while(phase),
                _ if self.phase.advance(phase, ENDED) => break,
                _ => (),
            }
        }
        // SAFETY: `context` is initialised by the type invariant, and cleaned up once: `destroy` is
        // not called again after success. Nothing is sent once `phase` is `ENDED`.
        unsafe { mlx5_cmd_cleanup_async_ctx(self.context.get()) };
        self.waiters.notify_all();
        Ok(())
    }

    fn quiesce(&self) {
        self.phase.wait_while(BUSY);
    }
}
