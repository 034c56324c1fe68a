// SPDX-License-Identifier: GPL-2.0

//! Which code the kernel runs for a thread, as KCOV records it (Documentation/dev-tools/kcov.rst).
//!
//! KCOV records the thread's own system calls. It sees nothing of interrupts, of workers, and of
//! code that is not compiled for it.

use super::kcov;
use crate::memory::SharedWords;
use std::{
    fs::File,
    io,
    marker::PhantomData,
    os::fd::AsFd,
    sync::atomic::{
        AtomicU64,
        Ordering::Relaxed, //
    },
};

/// Where KCOV is, if the kernel has it and debugfs is mounted.
pub(super) const KCOV: &str = "/sys/kernel/debug/kcov";
/// Words of a buffer. What does not fit is not recorded.
const BUFFER: i32 = 1 << 16;
/// Logarithm of the number of program counters that can be told apart: some times as many as
/// the edges of a whole kernel.
const SLOTS_LOG: u32 = 19;
/// Slots that a program counter may be in.
const PROBES: usize = 64;

/// Program counters, each once. Copies of this process add to the same set.
pub(super) struct Pcs {
    /// How many there are, and then a hash table with open addressing, whose free slots are 0.
    words: SharedWords,
}

impl Pcs {
    /// None yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            words: SharedWords::new(1 + (1 << SLOTS_LOG))?,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.words[0].load(Relaxed)
    }

    /// Adds one. Returns whether it is new. If all slots are taken in which it could be, it is
    /// not: whatever a kernel records, the set does not grow.
    fn add(&self, pc: u64) -> bool {
        // No code is at 0, which stands for a free slot.
        if pc == 0 {
            return false;
        }
        let slots = &self.words[1..];
        let first = (pc.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS_LOG)) as usize;
        for at in first..first + PROBES {
            let slot = &slots[at % slots.len()];
            let mut found = slot.load(Relaxed);
            if found == 0 {
                match slot.compare_exchange(0, pc, Relaxed, Relaxed) {
                    Ok(_) => {
                        self.words[0].fetch_add(1, Relaxed);
                        return true;
                    }
                    // Another thread was faster.
                    Err(other) => found = other,
                }
            }
            if found == pc {
                return false;
            }
        }
        false
    }
}

/// The program counters in a buffer. The first word is their number, but the memory is shared:
/// there are no more than the buffer has words for.
fn recorded(buffer: &[AtomicU64]) -> &[AtomicU64] {
    let Some((count, pcs)) = buffer.split_first() else {
        return &[];
    };
    let count = usize::try_from(count.load(Relaxed)).unwrap_or(usize::MAX);
    &pcs[..count.min(pcs.len())]
}

/// Has the code recorded that the kernel runs for the calling thread.
struct Recorder {
    file: File,
    buffer: SharedWords,
    /// It cannot be stopped by another thread.
    _not_send: PhantomData<*const ()>,
}

impl Recorder {
    fn start() -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(KCOV)?;
        kcov::init(file.as_fd(), BUFFER)?;
        let buffer = SharedWords::of_file(file.as_fd(), BUFFER as usize)?;
        kcov::enable(file.as_fd())?;
        Ok(Self {
            file,
            buffer,
            _not_send: PhantomData,
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It would end with the thread, too.
        let _ = kcov::disable(self.file.as_fd());
    }
}

/// Follows which code the kernel runs for the calling thread, if that can be known.
pub(super) struct Coverage<'a>(Option<(Recorder, &'a Pcs)>);

impl<'a> Coverage<'a> {
    /// Begins. Without a set, nothing is followed.
    pub(super) fn follow(pcs: Option<&'a Pcs>) -> io::Result<Self> {
        let following = pcs.map(|pcs| Recorder::start().map(|recorder| (recorder, pcs)));
        Ok(Self(following.transpose()?))
    }

    /// Adds what was run since the last call. Returns how much of it is new.
    pub(super) fn gained(&self) -> u64 {
        let Some((recorder, pcs)) = &self.0 else {
            return 0;
        };
        let recorded = recorded(&recorder.buffer);
        let new = recorded.iter().filter(|pc| pcs.add(pc.load(Relaxed)));
        let gained = new.count() as u64;
        recorder.buffer[0].store(0, Relaxed);
        gained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u64]) -> Vec<AtomicU64> {
        words.iter().copied().map(AtomicU64::new).collect()
    }

    #[test]
    fn a_program_counter_is_new_once() {
        let pcs = Pcs::new().unwrap();
        // Those of a module, of the kernel, and what is none.
        for pc in [0xffff_ffff_c000_0010, 0xffff_ffff_8100_0000, u64::MAX, 1] {
            assert!(pcs.add(pc), "{pc:x}");
            assert!(!pcs.add(pc), "{pc:x}");
        }
        assert!(!pcs.add(0));
        assert_eq!(pcs.count(), 4);
    }

    #[test]
    fn a_kernel_that_records_anything_fills_the_set_and_no_more() {
        let pcs = Pcs::new().unwrap();
        let most = 1 << SLOTS_LOG;
        let new = (1..=2 * most).filter(|pc| pcs.add(*pc)).count() as u64;
        assert_eq!(pcs.count(), new);
        assert!(new <= most && new > most / 2, "{new}");
    }

    #[test]
    fn the_number_in_the_buffer_is_not_trusted() {
        for (buffer, len) in [
            (&[][..], 0),
            (&[0], 0),
            (&[7], 0),
            (&[0, 11, 12], 0),
            (&[1, 11, 12], 1),
            (&[2, 11, 12], 2),
            (&[3, 11, 12], 2),
            (&[u64::MAX, 11, 12], 2),
        ] {
            let buffer = words(buffer);
            assert_eq!(recorded(&buffer).len(), len, "{buffer:?}");
        }
    }

    #[test]
    fn without_a_set_nothing_is_gained() {
        assert_eq!(Coverage::follow(None).unwrap().gained(), 0);
    }
}
