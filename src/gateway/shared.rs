//! The numbers in flight in memory that outlives us: the daemon holds the file (a memfd) and reads from it how many
//! requests each instance had when the gateway was killed.
//!
//! ```text
//! slot (64 bytes)   in flight, generation: u64 each, little-endian   name: 48 bytes, zero-filled
//! ```
//!
//! A slot without a name is free. Writing is one store to a mapped page, so it costs nothing and needs no moment of
//! grace; reading is an ordinary read of the file, at any time, also while the gateway lives.

#![expect(unsafe_code, reason = "a mapping that is shared with another process")]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of one slot.
pub const SLOT: usize = 64;
const NAME: usize = 48;

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The first 48 bytes of the instance's name.
    pub instance: String,
    pub generation: u64,
    pub in_flight: u64,
}

/// Reads what the gateway said last. The file is the one that was passed to it as `--shared-fd`.
pub fn read(file: &File) -> io::Result<Vec<InFlight>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.chunks_exact(SLOT).filter_map(slot).collect())
}

fn slot(bytes: &[u8]) -> Option<InFlight> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let name = bytes.get(16..)?.split(|it| *it == 0).next()?;
    (!name.is_empty()).then_some(())?;
    Some(InFlight {
        instance: String::from_utf8_lossy(name).into_owned(),
        in_flight: number(0)?,
        generation: number(8)?,
    })
}

/// The file, mapped. It is never unmapped: it lives as long as the process.
#[derive(Debug)]
pub(super) struct Shared {
    slots: &'static [[AtomicU64; SLOT / 8]],
    free: RefCell<Vec<usize>>,
}

/// One instance's place; none if there is no file, or no room in it.
#[derive(Debug)]
pub(super) struct Slot(Option<(&'static [AtomicU64; SLOT / 8], usize)>);

impl Shared {
    pub(super) fn none() -> Self {
        Self { slots: &[], free: RefCell::default() }
    }

    /// Maps the file, whose length says how many slots it has, and clears it.
    pub(super) fn map(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let count = length / SLOT;
        if count == 0 {
            return Ok(Self::none());
        }
        // SAFETY: a new mapping of a file that we hold; nobody shrinks it (the daemon seals it).
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast::<[AtomicU64; SLOT / 8]>())
            .ok_or_else(|| io::Error::other("a mapping at address zero"))?;
        // SAFETY: the mapping is page-aligned, `count` slots long, never unmapped, and only seen as atomics: every
        // bit pattern is valid, and another process may change it at any time.
        let slots = unsafe { std::slice::from_raw_parts(address.as_ptr(), count) };
        slots.iter().flatten().for_each(|it| it.store(0, Ordering::Relaxed));
        Ok(Self { slots, free: RefCell::new((0..count).rev().collect()) })
    }

    pub(super) fn slot(&self, name: &str, generation: u64) -> Slot {
        let Some(index) = self.free.borrow_mut().pop() else { return Slot(None) };
        let words = &self.slots[index];
        words[0].store(0, Ordering::Relaxed);
        words[1].store(generation.to_le(), Ordering::Relaxed);
        let mut bytes = [0; NAME];
        let length = name.len().min(NAME);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        for (word, eight) in words[2..].iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*eight), Ordering::Relaxed);
        }
        Slot(Some((words, index)))
    }

    pub(super) fn release(&self, slot: &Slot) {
        if let Some((words, index)) = slot.0 {
            words.iter().for_each(|it| it.store(0, Ordering::Relaxed));
            self.free.borrow_mut().push(index);
        }
    }
}

impl Slot {
    pub(super) fn set(&self, in_flight: u32) {
        if let Some((words, _)) = self.0 {
            words[0].store(u64::from(in_flight).to_le(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_holder_of_the_file_reads_what_was_set() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * SLOT as u64).unwrap();
        let shared = Shared::map(file.try_clone().unwrap().into()).unwrap();
        let web1 = shared.slot("web1", 3);
        let long = shared.slot(&"x".repeat(60), 1);
        let none = shared.slot("web3", 1);
        web1.set(7);
        none.set(9);
        let one = |instance: &str, generation, in_flight| InFlight {
            instance: instance.into(),
            generation,
            in_flight,
        };
        assert_eq!(read(&file).unwrap(), [one("web1", 3, 7), one(&"x".repeat(48), 1, 0)]);
        shared.release(&long);
        shared.slot("web3", 4).set(1);
        assert_eq!(read(&file).unwrap(), [one("web1", 3, 7), one("web3", 4, 1)]);
    }

    #[test]
    fn without_a_file_nothing_is_told() {
        let slot = Shared::none().slot("web1", 1);
        assert!(slot.0.is_none());
        slot.set(3);
    }
}
