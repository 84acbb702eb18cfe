//! What a daemon leaves to the program that it becomes: descriptors that must not close, and what it was.
//!
//! A memory file lists them by number, and its own number stands in [`VARIABLE`]. Everything but these is
//! closed by the kernel as this process becomes the next program.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use super::guardian::{self, Line};
use super::{Successor, Trial};
use crate::api::Actor;
use crate::daemon::gateway::listeners::Listeners;
use crate::daemon::show::publish;
use crate::daemon::systemd::Notifier;
use crate::fleet::By;
use crate::process::{inherited, spawn};

/// The form of the list; a program that knows only an older one is not taken for the next daemon.
pub const VERSION: u32 = 1;
/// The number of the list's descriptor.
pub const VARIABLE: &str = "OPSDECK_ESTATE";

/// The descriptors.
#[derive(Debug)]
pub struct Estate {
    /// The lock of the state directory: it belongs to the open file, so nobody can take it meanwhile.
    pub lock: OwnedFd,
    /// The API's socket, and where it is bound: clients wait in its backlog meanwhile.
    pub door: (PathBuf, OwnedFd),
    /// Where clients of services come in, by gateway.
    pub gateways: BTreeMap<String, OwnedFd>,
    /// The sockets of services.
    pub sockets: BTreeMap<String, OwnedFd>,
    /// Nothing outlives the process, as its first program saw it.
    pub is_last: Option<bool>,
}

impl Estate {
    fn try_clone(&self) -> io::Result<Self> {
        let all = |them: &BTreeMap<String, OwnedFd>| -> io::Result<BTreeMap<String, OwnedFd>> {
            them.iter().map(|(name, it)| Ok((name.clone(), it.try_clone()?))).collect()
        };
        let (path, door) = &self.door;
        Ok(Self {
            lock: self.lock.try_clone()?,
            door: (path.clone(), door.try_clone()?),
            gateways: all(&self.gateways)?,
            sockets: all(&self.sockets)?,
            is_last: self.is_last,
        })
    }
}

/// A program that this process was, and can become again.
#[derive(Debug)]
pub struct Past {
    pub program: OwnedFd,
    pub path: PathBuf,
    /// Its name among them.
    pub arguments: Vec<OsString>,
    pub release: String,
}

impl Past {
    /// The program that runs now. Its file may be gone: the kernel still has it.
    pub fn own() -> io::Result<Self> {
        Ok(Self {
            program: File::open("/proc/self/exe")?.into(),
            path: super::own_path().unwrap_or_default(),
            arguments: std::env::args_os().collect(),
            release: env!("CARGO_PKG_VERSION").into(),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            program: self.program.try_clone()?,
            path: self.path.clone(),
            arguments: self.arguments.clone(),
            release: self.release.clone(),
        })
    }

    /// A path that leads to this very file: its own, if nobody has replaced it.
    pub fn place(&self) -> io::Result<PathBuf> {
        let file = |it: std::fs::Metadata| (it.dev(), it.ino());
        let kept = file(File::from(self.program.try_clone()?).metadata()?);
        if std::fs::metadata(&self.path).is_ok_and(|it| file(it) == kept) {
            return Ok(self.path.clone());
        }
        use std::os::fd::AsRawFd;
        Ok(format!("/proc/{}/fd/{}", std::process::id(), self.program.as_raw_fd()).into())
    }
}

/// The list, as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    lock: i32,
    door: i32,
    door_path: OsString,
    gateways: BTreeMap<String, i32>,
    sockets: BTreeMap<String, i32>,
    #[serde(default)]
    is_last: Option<bool>,
    past: PastLine,
    by: Option<Actor>,
    /// Why this is the program before once more.
    #[serde(default)]
    failed: Option<String>,
    /// Where to say that the daemon is up.
    #[serde(default)]
    line: Option<i32>,
}

impl List {
    fn read(number: i32) -> io::Result<Self> {
        let file = File::from(inherited::take(number)?);
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut text = vec![0; length];
        // A guardian reads from the same open file.
        file.read_exact_at(&mut text, 0)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct PastLine {
    program: i32,
    path: OsString,
    arguments: Vec<OsString>,
    release: String,
}

/// What the program before left to this one.
#[derive(Debug)]
pub struct Heir {
    pub estate: Estate,
    /// The version of the program before.
    pub release: String,
    pub by: Option<By>,
    /// The next program did not come up, and why: this is the one before.
    pub failed: Option<String>,
    /// Until it is [passed](Trial::pass), an end of this program is a way back.
    pub trial: Option<Trial>,
    /// Where this program is, if its file was replaced by one that does not come up.
    pub program: Option<PathBuf>,
    /// Keeps that open.
    pub past: Past,
    /// To the guardian, if there is one.
    pub line: Option<Line>,
}

impl Heir {
    /// Takes the estate over, if one was left. `patience`: until when this program must be up.
    pub fn claim(patience: Duration) -> io::Result<Option<Self>> {
        let Some(number) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let number = number.to_str().and_then(|it| it.parse().ok()).unwrap_or(-1);
        Self::from_list(List::read(number)?, patience).map(Some)
    }

    /// The lock, if it is this one.
    pub fn lock_of(&self, path: &Path) -> Option<io::Result<OwnedFd>> {
        let file = |it: std::fs::Metadata| (it.dev(), it.ino());
        let ours = || File::from(self.estate.lock.try_clone()?).metadata();
        let is_it = std::fs::metadata(path).map(file).ok()? == ours().map(file).ok()?;
        is_it.then(|| self.estate.lock.try_clone())
    }

    /// The socket of the API, if it is bound there and can be found there.
    pub fn door_at(&self, path: &Path) -> Option<io::Result<OwnedFd>> {
        let (left, door) = &self.estate.door;
        (left == path && path.exists()).then(|| door.try_clone())
    }

    /// Whether that socket is this process's already.
    pub fn has_door_at(&self, path: &Path) -> bool {
        self.door_at(path).is_some()
    }

    /// Where the program before was found, for it alone: what the file says by now did not come up.
    pub fn own_place(&self) -> Option<&Path> {
        self.failed.is_some().then_some(self.estate.door.0.as_path())
    }

    /// The listeners of the gateways.
    pub fn take_gateways(&mut self) -> Listeners {
        let mut listeners = Listeners::default();
        listeners.take_back(std::mem::take(&mut self.estate.gateways).into_iter().collect());
        listeners
    }

    fn from_list(mut list: List, patience: Duration) -> io::Result<Self> {
        let failed = list.failed.take();
        let way_back = WayBack::from_list(list)?;
        let trial = match failed {
            None => Some(Trial::begin(way_back.try_clone()?, patience)?),
            Some(_) => None,
        };
        let WayBack { estate, past, by, line } = way_back;
        let program = failed.as_ref().map(|_| past.place()).transpose()?;
        let release = past.release.clone();
        Ok(Self { estate, release, by: by.map(person), failed, trial, program, past, line })
    }
}

fn person(it: Actor) -> By {
    By { uid: it.uid, login: it.login.into(), pid: it.pid, ssh: it.ssh.map(Into::into) }
}

/// Becomes the next program, or this one again if that cannot be executed. Returns only if neither can.
///
/// `trial`: how long the next program has until it is up.
pub fn hand_over(estate: Estate, successor: &Successor, trial: Duration) -> io::Result<Infallible> {
    let by = successor.by.as_ref().map(publish::actor);
    let past = Past::own()?;
    let mut arguments = past.arguments.clone();
    if let Some(name) = arguments.first_mut() {
        // By which it is found the next time.
        *name = successor.program.clone().into_os_string();
    }
    let (ear, voice) = io::pipe()?;
    let way_back = WayBack { estate, past, by, line: Some(Line(voice.into())) };
    let guard = Guard { ear: ear.into(), trial };
    let Err(err) = way_back.execute(&successor.program, &arguments, None, Some(guard));
    way_back.go(format!("{} cannot be executed: {err}", successor.program.display()))
}

/// What leads back to the program before.
#[derive(Debug)]
pub struct WayBack {
    pub estate: Estate,
    pub past: Past,
    pub by: Option<Actor>,
    pub line: Option<Line>,
}

/// What a guardian hears of, and for how long.
struct Guard {
    ear: OwnedFd,
    trial: Duration,
}

impl WayBack {
    /// For a guardian: the way of the process that has started it.
    pub fn inherited(list: i32) -> io::Result<Self> {
        let mut list = List::read(list)?;
        // The daemon's end of the line; here it would only be open for ever.
        drop(list.line.take().map(inherited::take));
        Self::from_list(list)
    }

    fn from_list(list: List) -> io::Result<Self> {
        let all = |them: BTreeMap<String, i32>| -> io::Result<_> {
            them.into_iter().map(|(name, it)| Ok((name, inherited::take(it)?))).collect()
        };
        let estate = Estate {
            lock: inherited::take(list.lock)?,
            door: (list.door_path.into(), inherited::take(list.door)?),
            gateways: all(list.gateways)?,
            sockets: all(list.sockets)?,
            is_last: list.is_last,
        };
        let past = Past {
            program: inherited::take(list.past.program)?,
            path: list.past.path.into(),
            arguments: list.past.arguments,
            release: list.past.release,
        };
        let line = list.line.map(inherited::take).transpose()?.map(Line);
        Ok(Self { estate, past, by: list.by, line })
    }

    fn try_clone(&self) -> io::Result<Self> {
        let line = self.line.as_ref().map(|it| it.0.try_clone()).transpose()?.map(Line);
        let (estate, past) = (self.estate.try_clone()?, self.past.try_clone()?);
        Ok(Self { estate, past, by: self.by.clone(), line })
    }

    /// Becomes the program before. Returns only if that failed.
    pub fn go(&self, why: String) -> io::Result<Infallible> {
        if let Some(line) = &self.line {
            line.back();
        }
        self.execute(&self.past.place()?, &self.past.arguments, Some(why), None)
    }

    fn execute(
        &self,
        program: &Path,
        arguments: &[OsString],
        failed: Option<String>,
        guard: Option<Guard>,
    ) -> io::Result<Infallible> {
        let list = self.list(failed)?;
        let number = inherited::leave_open(&list)?;
        let mut environment = super::environment();
        environment.push((VARIABLE.into(), number.to_string().into()));
        let environment = environment.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(&name)
        });
        let environment = environment.collect::<io::Result<Vec<_>>>()?;
        let argv = arguments.iter().map(|it| c_string(it)).collect::<io::Result<Vec<_>>>()?;
        // The first process of a container leaves nobody behind.
        if let Some(guard) = guard.filter(|_| std::process::id() != 1) {
            match guardian::start(number, &guard.ear, guard.trial) {
                // If this process dies now, the service goes on.
                Ok(pid) => Notifier::from_environment().hand_over(pid),
                Err(err) => tracing::warn!(%err, "nobody guards the next program"),
            }
        }
        // The next program takes it for what its children are to have.
        spawn::restore_descriptor_limit()?;
        let Err(err) = inherited::execute(&c_string(program.as_os_str())?, &argv, &environment);
        // What goes on here starts services again.
        spawn::raise_descriptor_limit()?;
        Err(err)
    }

    fn list(&self, failed: Option<String>) -> io::Result<File> {
        let all = |them: &BTreeMap<String, OwnedFd>| -> io::Result<BTreeMap<String, i32>> {
            them.iter().map(|(name, it)| Ok((name.clone(), inherited::leave_open(it)?))).collect()
        };
        let list = List {
            version: VERSION,
            lock: inherited::leave_open(&self.estate.lock)?,
            door: inherited::leave_open(&self.estate.door.1)?,
            door_path: self.estate.door.0.clone().into_os_string(),
            gateways: all(&self.estate.gateways)?,
            sockets: all(&self.estate.sockets)?,
            is_last: self.estate.is_last,
            past: PastLine {
                program: inherited::leave_open(&self.past.program)?,
                path: self.past.path.clone().into_os_string(),
                arguments: self.past.arguments.clone(),
                release: self.past.release.clone(),
            },
            by: self.by.clone(),
            failed,
            line: self.line.as_ref().map(|it| inherited::leave_open(&it.0)).transpose()?,
        };
        let mut file = File::from(rustix::fs::memfd_create("opsdeck-estate", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&list)?)?;
        Ok(file)
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.to_os_string().into_vec())?)
}
