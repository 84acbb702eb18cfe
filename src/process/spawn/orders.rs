//! What a child does between its birth and `execve`, prepared so that it needs no allocation.
//!
//! The child may share our memory until it executes, so it must find everything ready: C strings,
//! null-terminated tables, numbers. [`Orders`] owns these and can be carried out again.

use std::ffi::{CString, c_char};
use std::os::fd::{BorrowedFd, RawFd};
use std::path::Path;
use std::ptr;

use super::SpawnError;

/// Where standard output and standard error of the child go.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// A FIFO (or file), opened for reading and writing: it never blocks, and the child's last
    /// words stay readable for whoever else holds it open.
    Fifo(&'a Path),
    /// An open descriptor of ours.
    Descriptor(BorrowedFd<'a>),
    /// `/dev/null`.
    Null,
}

/// The step that a child could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// Making the process at all.
    Clone = 1,
    /// Leaving our descriptors behind.
    Descriptors,
    Session,
    Directory,
    /// Opening `/dev/null` as standard input.
    Input,
    Output,
    Execute,
}

/// Everything the child needs, owned.
#[derive(Debug)]
pub(super) struct Orders {
    pub program: CString,
    pub directory: Option<CString>,
    /// A path to open as 1 and 2, or `None`: the first of [`Orders::descriptors`] is it.
    pub output: Option<CString>,
    /// The output if it is a descriptor, then what becomes 3, 4, … of the child, in this order.
    pub descriptors: Vec<RawFd>,
    argv: Table,
    environment: Table,
}

/// Strings and the null-terminated table of pointers into them that `execve` takes.
#[derive(Debug)]
struct Table {
    /// Keeps the memory that the pointers point into.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Table {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|it| it.as_ptr()).chain([ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }
}

impl Orders {
    pub(super) fn new(
        program: CString,
        argv: &[String],
        environment: &[(String, String)],
    ) -> Result<Self, SpawnError> {
        let argv = argv.iter().map(c_string).collect::<Result<_, _>>()?;
        let environment = environment
            .iter()
            .map(|(name, value)| c_string(format!("{name}={value}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            program,
            directory: None,
            output: None,
            descriptors: Vec::new(),
            argv: Table::new(argv),
            environment: Table::new(environment),
        })
    }

    pub(super) fn argv(&self) -> *const *const c_char {
        self.argv.pointers.as_ptr()
    }

    pub(super) fn environment(&self) -> *const *const c_char {
        self.environment.pointers.as_ptr()
    }
}

/// A C string, or the complaint that a text holds a NUL byte.
pub(super) fn c_string(text: impl AsRef<[u8]>) -> Result<CString, SpawnError> {
    let bytes = text.as_ref();
    CString::new(bytes)
        .map_err(|_| SpawnError::Nul { text: String::from_utf8_lossy(bytes).replace('\0', "\\0") })
}
