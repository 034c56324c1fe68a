// SPDX-License-Identifier: GPL-2.0

//! The intake of a stream: its records, and the buffers for their images.

use super::session::ResumingSession;
use crate::{
    fw::image::ImageBuffer,
    stream::{
        Malformed,
        Need,
        Parser,
        HEADER_LEN, //
    },
    vf::Sending, //
};
use core::mem;
use kernel::{
    prelude::*,
    sizes::SZ_4M, //
};
use vfio_rust::kernel::{
    device::DeviceExt,
    error,
    fs::anon_inode::Wait,
    task,
    uaccess::cursor::UserReader, //
};

impl From<Malformed> for Error {
    /// Returns the error that the C driver returns, if it returns one.
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooLarge => ENOMEM,
            Malformed::UnknownTag => error::eopnotsupp(),
            Malformed::TooSmall => EINVAL,
        }
    }
}

/// Describes what is wrong, for the kernel log.
fn complaint(malformed: Malformed) -> &'static CStr {
    match malformed {
        Malformed::TooLarge => c"migration stream: a record of 4 GiB or more",
        Malformed::UnknownTag => c"migration stream: an unknown record that must not be skipped",
        Malformed::TooSmall => c"migration stream: a record too small for what is in it",
    }
}

/// Largest piece of an image, in bytes, whose memory is allocated before it is copied.
const AT_ONCE: usize = SZ_4M;

/// A stream that is being taken in.
///
/// There are two buffers: one is filled while firmware loads from the other. Memory that
/// firmware can reach stays mapped for the next image that fits.
pub(super) struct Intake {
    pub(super) parser: Parser,
    /// The image of the present record.
    pub(super) image: ImageBuffer,
    /// The other buffer, unless firmware loads from it, or `Incoming` has it.
    pub(super) spare: Option<ImageBuffer>,
    /// A buffer that is too small for the present image. It is dropped when that image is complete,
    /// not before: dropping it sends firmware commands, and the first byte of an image must not
    /// wait for firmware.
    pub(super) outgrown: Option<ImageBuffer>,
    /// The last byte of a record that was taken in but not counted.
    pub(super) owed: Option<u8>,
}

/// Why a write ended early.
pub(super) enum Interrupted {
    /// The wait for a LOAD was broken off, or not allowed.
    Wait(Error),
    /// The first byte differs from the owed one.
    WrongByte,
    /// The stream has failed.
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

impl ResumingSession {
    /// Starts to load the image, which is complete. No LOAD may be under way.
    fn load(&self, intake: &mut Intake, len: usize) -> Result {
        let sending = self.sending.lock();
        if *sending == Sending::Ended {
            return Err(ENODEV);
        }
        intake.outgrown = None;
        let next = self.spare(intake).take().unwrap_or_else(ImageBuffer::new);
        let buffer = mem::replace(&mut intake.image, next);
        let guard = self.vf.enter(self.epoch).map_err(|_| ENODEV)?;
        let image = buffer.complete(&guard, &self.pd, len, &mut intake.image)?;
        self.vf.tracer.load_begins(len as u64);
        self.command.start(&guard, image)?;
        self.incoming.lock().loading = true;
        intake.parser.loaded();
        Ok(())
    }

    /// Returns the other buffer, if firmware does not load from it.
    fn spare<'a>(&self, intake: &'a mut Intake) -> &'a mut Option<ImageBuffer> {
        if intake.spare.is_none() {
            intake.spare = self.lock().loaded.take();
        }
        &mut intake.spare
    }

    /// Chooses the buffer for an image of `len` bytes: the smaller one, unless only the other
    /// one has room.
    fn begin(&self, intake: &mut Intake, len: usize) {
        self.spare(intake);
        if let Some(spare) = &mut intake.spare {
            let image = &mut intake.image;
            if spare.reachable() < image.reachable() {
                mem::swap(spare, image);
            }
            if image.reachable() < len && len <= spare.reachable() {
                mem::swap(spare, image);
            }
        }
        if (1..len).contains(&intake.image.reachable()) {
            let outgrown = mem::replace(&mut intake.image, ImageBuffer::new());
            intake.outgrown = Some(outgrown);
        }
    }

    /// Takes in all bytes of `from`.
    pub(super) fn take_in(
        &self,
        intake: &mut Intake,
        wait: Wait,
        from: &mut UserReader,
    ) -> Result<(), Interrupted> {
        if from.left() == 0 {
            return Ok(());
        }
        if let Some(owed) = intake.owed {
            if from.peek_byte()? != owed {
                return Err(Interrupted::WrongByte);
            }
            from.skip(1)?;
            intake.owed = None;
        }
        loop {
            let left = from.left();
            match intake.parser.need() {
                Need::Load { len } => {
                    self.wait_loaded(wait)?;
                    self.load(intake, len)?;
                }
                _ if left == 0 => {
                    if intake.parser.is_at_boundary() {
                        self.wait_loaded(wait)?;
                    }
                    return Ok(());
                }
                Need::Push(want) => {
                    // Check here, since a write of headers only never waits.
                    task::check_killed()?;
                    let mut bytes = [0; HEADER_LEN];
                    let bytes = &mut bytes[..want.min(left).min(HEADER_LEN)];
                    from.read(bytes)?;
                    intake.parser.push(bytes).map_err(|malformed| {
                        self.vf.dev.warn_ratelimited(complaint(malformed));
                        Error::from(malformed)
                    })?;
                }
                Need::Store { at, len } => {
                    if at == 0 {
                        self.begin(intake, len);
                    }
                    // Limit the piece: its memory is allocated before it is copied, which can take
                    // arbitrarily long. What is allocated already is filled first.
                    let room = intake.image.room(at).unwrap_or(AT_ONCE);
                    let n = len.min(left).min(room).min(AT_ONCE);
                    intake.image.write(at, n, at + len, from)?;
                    intake.parser.stored(n);
                }
                Need::Skip(len) => {
                    let n = left.min(len.try_into().unwrap_or(usize::MAX));
                    from.skip(n)?;
                    intake.parser.skipped(n as u64);
                }
            }
        }
    }
}
