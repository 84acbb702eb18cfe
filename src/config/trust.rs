//! What root runs and reads, nobody else may be able to change.
//!
//! A path is as safe as every step of it: whoever owns a directory, or may write to it, can put something else
//! in the place of what is in there. So each step is looked at, also those behind symbolic links. Entries of a
//! sticky directory such as `/tmp` can be replaced by their owners only (unlink(2)), so such a directory is no
//! reason by itself.
//!
//! Who can replace our own program has what root has already, and is no stranger.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use super::settings::{Launch, Nginx};

/// As many symbolic links as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;
const STICKY: u32 = 0o1000;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who may write what we read and run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
    everybody: bool,
}

/// Answers that were given already: many instances run the same program.
#[derive(Clone, Debug)]
pub struct Verdicts {
    trust: Trust,
    given: BTreeMap<Asked, Result<(), Distrust>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    program: String,
    search: Option<String>,
    directory: Option<PathBuf>,
    user: Option<String>,
}

impl Verdicts {
    pub fn new(trust: Trust) -> Self {
        Self { trust, given: BTreeMap::new() }
    }

    /// As [`Trust::launch`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn launch(&mut self, program: &str, launch: &Launch) -> Result<(), Distrust> {
        let asked = Asked {
            program: program.to_owned(),
            search: launch.environment.get("PATH").map(|it| it.0.clone()),
            directory: launch.directory.clone(),
            user: launch.user.clone(),
        };
        let look = || self.trust.launch(program, launch);
        self.given.entry(asked).or_insert_with(look).clone()
    }
}

/// What somebody else may write, and who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// The step of the path.
    pub at: PathBuf,
    /// `it belongs to alice (uid 1000)`.
    pub who: String,
    pub help: String,
}

impl Distrust {
    /// As one sentence, with what to do.
    pub fn in_full(&self) -> String {
        format!("root would run what others can replace: {self}; {}", self.help)
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at.display(), self.who)
    }
}

/// Whether a pid file may name a process of these users: who could write it may name what he could signal
/// anyway, and any process if he is root, or we ourselves.
///
/// # Errors
///
/// Somebody else may have written what is in it.
pub fn pid_file(path: &Path, users: [u32; 2]) -> Result<(), Distrust> {
    let (us, group) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let mut trust = Trust::of_root().unwrap_or_else(|| Trust::of_user(us, group));
    trust.users.extend(users);
    trust.path(path)
}

impl Trust {
    /// `None` for everybody but root: others can only be harmed by those who may harm them anyway.
    pub fn of_root() -> Option<Self> {
        Uid::effective().is_root().then(Self::of_us)
    }

    /// For our own places: root, ourselves with our group, and who can replace our program.
    pub fn of_us() -> Self {
        let (us, group) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        let mut trust = match us {
            0 => Self { users: [0].into(), groups: [0].into(), everybody: false },
            _ => Self::of_user(us, group),
        };
        let own = std::env::current_exe().unwrap_or_default();
        walk(&own, |step| {
            trust.users.insert(step.owner);
            trust.groups.extend(step.group);
            trust.everybody |= step.everybody;
            true
        });
        trust
    }

    /// Whom somebody who is not root lets write what he believes: root, and himself with his group.
    fn of_user(user: u32, group: u32) -> Self {
        Self { users: [0, user].into(), groups: [0, group].into(), everybody: false }
    }

    /// With the user that a service runs as: what he can change harms nobody but himself.
    fn with_user(&self, user: Option<&str>) -> Self {
        let mut trust = self.clone();
        trust.users.extend(user.and_then(uid_of));
        trust
    }

    /// Looks at every step of a path; what is not there is no reason.
    ///
    /// # Errors
    ///
    /// The first step that somebody else may write.
    pub fn path(&self, path: &Path) -> Result<(), Distrust> {
        let mut found = None;
        walk(path, |step| {
            found = self.distrust(step);
            found.is_none()
        });
        found.map_or(Ok(()), Err)
    }

    /// The program that a launch comes to, and where root itself is to run it, its directory.
    ///
    /// # Errors
    ///
    /// The first step that somebody else may write, the user of the service aside.
    pub fn launch(&self, program: &str, launch: &Launch) -> Result<(), Distrust> {
        let trust = self.with_user(launch.user.as_deref());
        let directory = launch.directory.as_deref();
        let search = launch.environment.get("PATH").map(|it| it.0.clone());
        if let Some(path) = find(program, search, directory) {
            trust.path(&path)?;
        }
        let is_root = launch.user.as_deref().is_none_or(|it| uid_of(it) == Some(0));
        match directory.filter(|_| is_root) {
            Some(directory) => trust.path(directory),
            None => Ok(()),
        }
    }

    /// A program that root itself runs from `/`, looked up in `search`.
    ///
    /// # Errors
    ///
    /// The first step of its path that somebody else may write.
    pub fn command(&self, program: &str, search: &str) -> Result<(), Distrust> {
        let found = find(program, Some(search.to_owned()), Some("/".as_ref()));
        found.map_or(Ok(()), |it| self.path(&it))
    }

    /// What root runs and writes for an nginx.
    ///
    /// # Errors
    ///
    /// The first key of it that somebody else may replace, and why.
    pub fn nginx(&self, nginx: &Nginx) -> Result<(), (&'static str, Distrust)> {
        let commands = [("test", Some(&nginx.test)), ("reload", nginx.reload.as_ref())];
        let programs = commands.into_iter().filter_map(|(key, it)| Some((key, it?.first()?)));
        // Run from `/`, with our own PATH.
        let programs =
            programs.filter_map(|(key, it)| Some((key, find(it, None, Some("/".as_ref()))?)));
        let files = [
            ("file", Some(nginx.file.clone())),
            ("file", nginx.server_file()),
            ("switches", nginx.switches.clone()),
        ];
        let files = files.into_iter().filter_map(|(key, it)| Some((key, it?)));
        programs.chain(files).try_for_each(|(key, it)| self.path(&it).map_err(|it| (key, it)))
    }

    fn distrust(&self, step: &Step) -> Option<Distrust> {
        let path = step.path.display();
        let found = |who: String, help: String| Some(Distrust { at: step.path.clone(), who, help });
        if !self.users.contains(&step.owner) {
            let help = match Uid::effective().is_root() {
                true => format!("chown root {path}"),
                false => {
                    "keep it where only root, you and the user of the process may write".into()
                }
            };
            return found(format!("belongs to {}", user_name(step.owner)), help);
        }
        if step.everybody && !self.everybody {
            return found("may be written by everybody".into(), format!("chmod go-w {path}"));
        }
        let group = step.group.filter(|it| !self.groups.contains(it))?;
        let who = format!("may be written by the group {}", group_name(group));
        found(who, format!("chmod g-w {path}"))
    }
}

/// One step of a path, and who may write it.
struct Step {
    path: PathBuf,
    owner: u32,
    group: Option<u32>,
    everybody: bool,
}

/// Goes along a path, symbolic links too, for as long as there is something and `visit` wants more.
fn walk(path: &Path, mut visit: impl FnMut(&Step) -> bool) {
    let Ok(path) = std::path::absolute(path) else { return };
    let mut real = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(&path);
    let mut links = 0;
    loop {
        let Ok(meta) = std::fs::symlink_metadata(&real) else { return };
        let mode = meta.mode();
        let is_sticky = meta.is_dir() && mode & STICKY != 0;
        if meta.is_symlink() {
            // Its own mode says nothing, and only in a sticky directory its owner can replace it.
            let step =
                Step { path: real.clone(), owner: meta.uid(), group: None, everybody: false };
            links += 1;
            if links > MOST_LINKS || (is_in_sticky(&real) && !visit(&step)) {
                return;
            }
            let Ok(target) = std::fs::read_link(&real) else { return };
            real.pop();
            if target.is_absolute() {
                real = "/".into();
            }
            for name in names(&target).into_iter().rev() {
                rest.push_front(name);
            }
        } else {
            let group = (!is_sticky && mode & 0o020 != 0).then(|| meta.gid());
            let everybody = !is_sticky && mode & 0o002 != 0;
            let step = Step { path: real.clone(), owner: meta.uid(), group, everybody };
            if !visit(&step) {
                return;
            }
        }
        loop {
            match rest.pop_front() {
                None => return,
                Some(name) if name == ".." => drop(real.pop()),
                Some(name) => {
                    real.push(name);
                    break;
                }
            }
        }
    }
}

fn is_in_sticky(path: &Path) -> bool {
    let above = path.parent().and_then(|it| std::fs::metadata(it).ok());
    above.is_some_and(|it| it.mode() & STICKY != 0)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |it: Component<'_>| match it {
        Component::Normal(_) | Component::ParentDir => Some(it.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// The file that a program's name comes to where it is started; `None` if there is none.
fn find(program: &str, search: Option<String>, directory: Option<&Path>) -> Option<PathBuf> {
    let here = |path: PathBuf| directory.map_or_else(|| path.clone(), |it| it.join(&path));
    if program.contains('/') {
        return Some(here(program.into()));
    }
    let search = search.or_else(|| std::env::var("PATH").ok());
    let search = search.as_deref().unwrap_or(DEFAULT_PATH);
    let folders = search.split(':').map(|it| if it.is_empty() { "." } else { it });
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0)
    };
    folders.map(|it| here(Path::new(it).join(program))).find(is_program)
}

/// Of `name` or a number, either with `:group`.
pub(crate) fn uid_of(user: &str) -> Option<u32> {
    let name = user.split(':').next()?;
    let known = || super::accounts::user(name).map(|it| it.uid.as_raw());
    name.parse().ok().or_else(known)
}

pub(crate) fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(it)) => format!("{} (uid {uid})", it.name),
        _ => format!("uid {uid}"),
    }
}

fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(it)) => format!("{} (gid {gid})", it.name),
        _ => format!("gid {gid}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Of us, whoever we are: the steps down to the directory of a test are no subject here.
    fn trust() -> Trust {
        let mut trust = Trust { users: [0].into(), groups: [0].into(), everybody: false };
        walk(&std::env::temp_dir(), |step| {
            trust.users.insert(step.owner);
            trust.groups.extend(step.group);
            true
        });
        trust.users.insert(Uid::effective().as_raw());
        trust
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_step_counts_also_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (open, deep) = (dir.path().join("open"), dir.path().join("open/deep"));
        fs::create_dir_all(&deep).unwrap();
        let file = deep.join("web");
        fs::write(&file, "").unwrap();
        let link = dir.path().join("link");
        symlink("open/../open/deep/web", &link).unwrap();
        let trust = trust();
        for path in [&file, &link, &deep.join("missing/too")] {
            assert_eq!(trust.path(path), Ok(()));
        }

        mode(&open, 0o777);
        for path in [&file, &link, &deep.join("missing/too")] {
            let found = trust.path(path).unwrap_err();
            assert_eq!(found.at, fs::canonicalize(&open).unwrap());
            assert_eq!(found.who, "may be written by everybody");
            assert!(found.help.starts_with("chmod go-w /"), "{}", found.help);
        }
        // Its entries belong to us, and nobody else can replace them.
        mode(&open, 0o1777);
        assert_eq!(trust.path(&file), Ok(()));
        mode(&file, 0o646);
        assert_eq!(trust.path(&link).unwrap_err().at, fs::canonicalize(&file).unwrap());
    }

    #[test]
    fn another_owner_and_a_group_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut trust = trust();
        assert_eq!(trust.path(dir.path()), Ok(()));
        mode(dir.path(), 0o770);
        trust.groups.clear();
        let found = trust.path(dir.path()).unwrap_err();
        assert!(found.who.starts_with("may be written by the group "), "{found}");
        trust.users = [4321].into();
        let found = trust.path(dir.path()).unwrap_err();
        assert_eq!(
            (found.at.as_path(), found.who.as_str()),
            (Path::new("/"), "belongs to root (uid 0)")
        );
    }

    #[test]
    fn who_is_not_root_believes_a_pid_file_that_nobody_else_can_write() {
        let dir = tempfile::tempdir().unwrap();
        let (place, file) = (dir.path().join("run"), dir.path().join("run/web.pid"));
        fs::create_dir(&place).unwrap();
        fs::write(&file, "4711").unwrap();
        let (mut us, mut group) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        if us == 0 {
            (us, group) = (4321, 4322);
            for it in [&place, &file] {
                std::os::unix::fs::chown(it, Some(us), Some(group)).unwrap();
            }
        }
        let verdict = |user: u32, group: u32| Trust::of_user(user, group).path(&file);
        mode(&place, 0o755);
        assert_eq!(verdict(us, group), Ok(()));
        // Who has a group of his own lets it write.
        mode(&place, 0o770);
        mode(&file, 0o660);
        assert_eq!(verdict(us, group), Ok(()));
        assert_eq!(verdict(us, group + 1).unwrap_err().at, place);
        assert!(verdict(us + 1, group).unwrap_err().who.starts_with("belongs to "));

        mode(&file, 0o666);
        let found = verdict(us, group).unwrap_err();
        assert_eq!((&found.at, found.who.as_str()), (&file, "may be written by everybody"));
        assert!(found.help.starts_with("chmod go-w /"), "{}", found.help);
        mode(&file, 0o644);
        mode(&place, 0o777);
        assert_eq!(verdict(us, group).unwrap_err().at, place);
        mode(&place, 0o1777);
        assert_eq!(verdict(us, group), Ok(()));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(trust().path(&dir.path().join("a")), Ok(()));
    }
}
