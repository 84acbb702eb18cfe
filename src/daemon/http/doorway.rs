//! The place of the API's socket: private from its creation, and bound anew where somebody has removed it.
//!
//! A state directory may be removed and come back, and so may the runtime directory. What is open goes on meanwhile;
//! nobody finds the daemon any more, and a second one would not know that there is a first. So it is looked at now
//! and then, and made anew beside what there was. Whatever else is found in its place stays there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::daemon::boot::Plan;
use crate::daemon::clock;
use crate::daemon::host::private_directory;
use crate::daemon::http::peer::Access;
use crate::daemon::lock;
use crate::daemon::replace::Heir;
use crate::daemon::turn::{Turn, Turns};
use crate::process::table::FileId;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the kernel may need until the sockets of who was killed are closed.
const ENDING: Duration = Duration::from_secs(5);
/// Between two looks for that.
const SOON: Duration = Duration::from_millis(50);
/// Who waits to be accepted.
const BACKLOG: i32 = 1024;
/// The one that is bound, and one whose directory may come back.
const KEPT: usize = 2;

/// What the driver hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nobody finds it: why.
    Lost(String),
    /// It is where it was.
    Found,
    /// It was bound once more.
    Anew,
}

/// The place. Clones are the same.
#[derive(Clone, Debug)]
pub struct Doorway {
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    socket: PathBuf,
    /// The last one is the one that is handed over.
    bound: Arc<Mutex<Vec<Bound>>>,
}

#[derive(Debug)]
struct Bound {
    listener: OwnedFd,
    file: FileId,
}

/// What is where the socket should be.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Ours,
    Nothing,
    NoDirectory,
    Another,
}

impl Doorway {
    /// Opens it: with the socket that this process has, or a new one.
    pub fn open(
        plan: &Plan,
        heir: Option<&Heir>,
        shared: bool,
    ) -> io::Result<(Self, UnixListener)> {
        let it = Self {
            state_dir: plan.state_dir.clone(),
            runtime_dir: plan.runtime_dir.clone(),
            socket: plan.socket.clone(),
            bound: Arc::default(),
        };
        let listener = match heir.and_then(|heir| heir.door_at(&it.socket)) {
            Some(left) => it.add(left?, shared)?,
            None => {
                if let Some(parent) = it.socket.parent() {
                    private_directory(parent)?;
                }
                it.add(bind_private(&it.socket, shared)?, shared)?
            }
        };
        Ok((it, listener))
    }

    /// Sees to it that the daemon is found, until `stop`; whoever accepts gets what is bound anew.
    pub async fn keep(
        self,
        access: watch::Receiver<Arc<Access>>,
        (more, turns): (mpsc::Sender<UnixListener>, Turns),
        stop: CancellationToken,
    ) {
        let mut lost = None;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
            let shared = access.borrow().shared;
            let (listener, news) = match self.look(shared) {
                Ok(None) => (None, News::Found),
                Ok(Some(listener)) => (Some(listener), News::Anew),
                Err(why) => (None, News::Lost(why)),
            };
            if let Some(listener) = listener {
                // Who accepts ends only with the daemon.
                let _ = more.send(listener).await;
            }
            let is_lost = if let News::Lost(why) = &news { Some(why.clone()) } else { None };
            if is_lost != lost || news == News::Anew {
                lost = is_lost;
                let _ = turns.send(Turn::Doorway(news)).await;
            }
        }
    }

    /// One look: a listener where one was bound, and why nobody finds it where none could be.
    fn look(&self, shared: bool) -> Result<Option<UnixListener>, String> {
        let path = self.socket.display();
        let unable = |err: io::Error| format!("{path} was removed and cannot be made anew ({err})");
        self.keep_seat().map_err(|err| {
            let runtime_dir = self.runtime_dir.display();
            format!("{runtime_dir} was removed and cannot be made anew ({err})")
        })?;
        match self.there().map_err(unable)? {
            There::Ours => Ok(None),
            There::Nothing => {
                let made = self.trusts_parent().and_then(|()| bind_private(&self.socket, shared));
                made.and_then(|it| self.add(it, shared)).map(Some).map_err(unable)
            }
            There::NoDirectory => Err(format!(
                "{path} was removed with its directory: nobody who comes finds this daemon until that is back"
            )),
            There::Another => Err(format!(
                "{path} is not this daemon's any more: nobody who comes finds it until that is removed"
            )),
        }
    }

    /// The runtime directory with the name of this daemon in it, so that no second one begins beside it.
    fn keep_seat(&self) -> io::Result<()> {
        // It may be below the state directory, which is not ours to make.
        if !self.state_dir.exists() || lock::is_seated(&self.runtime_dir) {
            return Ok(());
        }
        private_directory(&self.runtime_dir)?;
        lock::sit(&self.runtime_dir)
    }

    fn there(&self) -> io::Result<There> {
        let found = match std::fs::symlink_metadata(&self.socket) {
            Ok(found) => found,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let is_there = self.socket.parent().is_some_and(Path::exists);
                return Ok(if is_there { There::Nothing } else { There::NoDirectory });
            }
            Err(err) => return Err(err),
        };
        let mut bound = self.bound();
        let file = FileId::from(&found);
        let ours = bound.iter().position(|it| it.file == file && found.file_type().is_socket());
        let Some(ours) = ours else { return Ok(There::Another) };
        // One that came back is the one that the next program gets.
        let it = bound.remove(ours);
        bound.push(it);
        Ok(There::Ours)
    }

    /// Where anybody else could put a socket of his own in our place there is none of ours.
    fn trusts_parent(&self) -> io::Result<()> {
        let owner = self.socket.parent().unwrap_or(Path::new("/")).metadata()?.uid();
        if owner == 0 || owner == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        Err(io::Error::other(format!("its directory belongs to uid {owner}")))
    }

    fn add(&self, listener: OwnedFd, shared: bool) -> io::Result<UnixListener> {
        open_to(&self.state_dir, &self.socket, shared)?;
        let file = FileId::from(&std::fs::symlink_metadata(&self.socket)?);
        let mut bound = self.bound();
        bound.push(Bound { listener: listener.try_clone()?, file });
        let surplus = bound.len().saturating_sub(KEPT);
        bound.drain(..surplus);
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    fn bound(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new daemon must not find the socket of an old one; one that is not ours stays.
    pub fn close(&self) {
        if matches!(self.there(), Ok(There::Ours)) {
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    /// The socket for the program that this process becomes.
    pub fn leave(&self) -> io::Result<(PathBuf, OwnedFd)> {
        let _ = self.there();
        let bound = self.bound();
        let last = bound.last().ok_or(io::ErrorKind::NotFound)?;
        Ok((self.socket.clone(), last.listener.try_clone()?))
    }
}

/// Removes a socket that nobody listens on any more from the place of ours. Whatever else is there stays.
///
/// # Errors
///
/// Something else is there, or a process that listens; one that is just ending is waited for.
pub async fn make_room(plan: &Plan) -> io::Result<()> {
    let give_up = clock::now() + ENDING;
    loop {
        match make_room_at(&plan.socket, plan.socket.parent() == Some(&plan.state_dir)) {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse && clock::now() < give_up => {
                tokio::time::sleep(SOON).await;
            }
            answer => return answer,
        }
    }
}

/// The door of the program before, where ours is another one: nobody gets in there any more, and its socket goes.
pub fn forsake((place, listener): &(PathBuf, OwnedFd), ours: &Path) {
    if place == ours {
        return;
    }
    // A guardian has it open for a moment longer.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
    if let Err(err) = make_room_at(place, false) {
        tracing::info!(path = %place.display(), %err, "left behind");
    }
}

/// `locked`: the place is below our lock, so a socket that is there belongs to nobody.
fn make_room_at(socket: &Path, locked: bool) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(socket) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = "what is there is no socket, and stays; move it away, or set `[deck] socket`";
        return Err(io::Error::other(why));
    }
    let us = rustix::process::geteuid().as_raw();
    if !locked {
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(there) => {
                let who = rustix::net::sockopt::socket_peercred(&there)?.pid.as_raw_pid();
                let why = format!("another process listens there, pid {who}");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
            }
            Err(err) if err.kind() != io::ErrorKind::ConnectionRefused => return Err(err),
            Err(_) if found.uid() != us && found.uid() != 0 => {
                return Err(io::Error::other(format!("the socket of uid {} stays", found.uid())));
            }
            Err(_) => {}
        }
    }
    std::fs::remove_file(socket)
}

/// Binds a socket with the mode it is to have: there is no moment in which it is open to more.
fn bind_private(path: &Path, shared: bool) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file gets the mode that the socket has, less the umask.
    rustix::fs::fchmod(socket.as_fd(), rustix::fs::Mode::from_raw_mode(mode(shared)))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn mode(shared: bool) -> u32 {
    if shared { 0o666 } else { 0o600 }
}

/// Lets others as far as the socket once they are named, and nobody any more when they are not.
///
/// Whoever passes through the state directory can read nothing in it: its files belong to us alone. A
/// socket elsewhere stands in a directory that is the operator's business.
pub fn open_to(state_dir: &Path, socket: &Path, shared: bool) -> io::Result<()> {
    let passage = if shared { 0o711 } else { 0o700 };
    if socket.parent() == Some(state_dir) {
        std::fs::set_permissions(state_dir, PermissionsExt::from_mode(passage))?;
    }
    std::fs::set_permissions(socket, PermissionsExt::from_mode(mode(shared)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// One in a directory of its own, as a daemon has it that has just begun.
    fn opened(dir: &Path) -> (Doorway, UnixListener) {
        let (state_dir, runtime_dir) = (dir.join("state"), dir.join("run"));
        for it in [&state_dir, &runtime_dir] {
            private_directory(it).unwrap();
        }
        let socket = state_dir.join("opsdeck.sock");
        lock::sit(&runtime_dir).unwrap();
        let it = Doorway { state_dir, runtime_dir, socket, bound: Arc::default() };
        let listener = it.add(bind_private(&it.socket, false).unwrap(), false).unwrap();
        (it, listener)
    }

    fn mode_of(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_is_private_before_anybody_could_change_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it.sock");
        let _private = bind_private(&path, false).unwrap();
        assert_eq!(mode_of(&path), 0o600);
    }

    #[tokio::test]
    async fn what_was_removed_is_bound_anew_and_what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (it, first) = opened(dir.path());
        assert!(it.look(false).unwrap().is_none());
        std::fs::remove_dir_all(&it.state_dir).unwrap();
        std::fs::remove_dir_all(&it.runtime_dir).unwrap();
        let why = it.look(false).unwrap_err();
        assert!(why.contains("removed with its directory"), "{why}");
        assert!(!it.state_dir.exists(), "it is not ours to make");

        std::fs::create_dir(&it.state_dir).unwrap();
        let anew = it.look(false).unwrap().unwrap();
        assert_eq!((mode_of(&it.socket), mode_of(&it.state_dir)), (0o600, 0o700));
        assert!(lock::is_seated(&it.runtime_dir));
        let _client = UnixStream::connect(&it.socket).unwrap();
        assert!(anew.accept().await.is_ok());
        assert!(it.look(false).unwrap().is_none());
        drop(first);
    }

    #[tokio::test]
    async fn a_stranger_in_its_place_is_never_replaced_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (it, _first) = opened(dir.path());
        std::fs::remove_file(&it.socket).unwrap();
        let stranger = std::os::unix::net::UnixListener::bind(&it.socket).unwrap();
        let why = it.look(false).unwrap_err();
        assert!(why.contains("not this daemon's any more"), "{why}");
        it.close();
        let _client = UnixStream::connect(&it.socket).unwrap();
        assert!(stranger.accept().is_ok());

        std::fs::remove_file(&it.socket).unwrap();
        assert!(it.look(false).unwrap().is_some());
        it.close();
        assert!(!it.socket.exists());
    }

    #[tokio::test]
    async fn a_directory_that_comes_back_brings_its_socket_along() {
        let dir = tempfile::tempdir().unwrap();
        let (it, first) = opened(dir.path());
        let aside = dir.path().join("aside");
        std::fs::rename(&it.state_dir, &aside).unwrap();
        std::fs::create_dir(&it.state_dir).unwrap();
        let _second = it.look(false).unwrap().unwrap();
        std::fs::remove_dir_all(&it.state_dir).unwrap();
        std::fs::rename(&aside, &it.state_dir).unwrap();
        assert!(it.look(false).unwrap().is_none());
        let _client = UnixStream::connect(&it.socket).unwrap();
        assert!(first.accept().await.is_ok());
        let (_, handed_over) = it.leave().unwrap();
        let ours = FileId::of_descriptor(handed_over.as_fd()).unwrap();
        assert_eq!(ours, FileId::of_descriptor(first.as_fd()).unwrap());
    }
}
