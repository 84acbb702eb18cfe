//! What a child does between its birth and `execve`, prepared so that it needs no allocation.
//!
//! The child may share our memory until it executes, so it must find everything ready: C strings,
//! null-terminated tables, numbers. [`Orders`] owns what is the same at every start of an instance and
//! is made once; [`Start`] is one of them.

use std::ffi::{CStr, CString, c_char};
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
    /// The same, and a file to read from instead of `/dev/null`.
    WithInput(BorrowedFd<'a>, &'a Path),
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
    /// Opening the standard input.
    Input,
    Output,
    Execute,
}

/// What is the same at every start, owned.
#[derive(Debug)]
pub(super) struct Orders {
    pub program: CString,
    pub directory: Option<CString>,
    /// A path to open as 0; `None`: `/dev/null`.
    pub input: Option<CString>,
    /// A path to open as 1 and 2, or `None`: the first of the descriptors of a start is it.
    pub output: Option<CString>,
    argv: Strings,
    environment: Strings,
}

/// One start: the orders, the pointers that `execve` takes, and what is passed this time.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub program: &'a CStr,
    pub directory: Option<&'a CStr>,
    pub input: Option<&'a CStr>,
    pub output: Option<&'a CStr>,
    /// The output if it is a descriptor, then what becomes 3, 4, … of the child, in this order.
    pub descriptors: Vec<RawFd>,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
}

/// Strings one behind the other, each with its NUL: a thousand instances keep theirs.
#[derive(Debug)]
struct Strings(Box<[u8]>);

impl Strings {
    fn new(strings: impl Iterator<Item = Result<CString, SpawnError>>) -> Result<Self, SpawnError> {
        let mut bytes = Vec::new();
        for it in strings {
            bytes.extend_from_slice(it?.as_bytes_with_nul());
        }
        Ok(Self(bytes.into()))
    }

    /// The null-terminated table of pointers into them.
    fn pointers(&self) -> Vec<*const c_char> {
        let strings = self.0.split_inclusive(|it| *it == 0).map(|it| it.as_ptr().cast());
        strings.chain([ptr::null()]).collect()
    }
}

impl Orders {
    pub(super) fn new(
        program: CString,
        argv: &[String],
        environment: &[(String, String)],
    ) -> Result<Self, SpawnError> {
        let variables = environment.iter().map(|(name, value)| c_string(format!("{name}={value}")));
        Ok(Self {
            program,
            directory: None,
            input: None,
            output: None,
            argv: Strings::new(argv.iter().map(c_string))?,
            environment: Strings::new(variables)?,
        })
    }

    /// `program`: what is executed, where that is not what it was when these were made.
    pub(super) fn start<'a>(
        &'a self,
        program: Option<&'a CStr>,
        descriptors: Vec<RawFd>,
    ) -> Start<'a> {
        Start {
            program: program.unwrap_or(&self.program),
            directory: self.directory.as_deref(),
            input: self.input.as_deref(),
            output: self.output.as_deref(),
            descriptors,
            argv: self.argv.pointers(),
            environment: self.environment.pointers(),
        }
    }
}

impl Start<'_> {
    pub(super) fn argv(&self) -> *const *const c_char {
        self.argv.as_ptr()
    }

    pub(super) fn environment(&self) -> *const *const c_char {
        self.environment.as_ptr()
    }
}

/// A C string, or the complaint that a text holds a NUL byte.
pub(super) fn c_string(text: impl AsRef<[u8]>) -> Result<CString, SpawnError> {
    let bytes = text.as_ref();
    CString::new(bytes)
        .map_err(|_| SpawnError::Nul { text: String::from_utf8_lossy(bytes).replace('\0', "\\0") })
}
