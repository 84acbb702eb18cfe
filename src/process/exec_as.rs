//! `opsdeck exec-as`: the small program between us and a program that runs as somebody else.
//!
//! User and groups, limits, umask, capabilities and no_new_privs cannot be set by posix_spawn, and looking a
//! user up may wait for a directory server, which the daemon must not. So we execute ourselves
//! once more, set everything there, and execute the program: same pid, same session, same cgroup.
//!
//! Why it could not is written to a close-on-exec pipe: end of file says that the program was
//! executed, and its exit codes are its own.

#![expect(unsafe_code, reason = "a descriptor is inherited by number; SIGPIPE is set back")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::{Gid, Group, Uid, User};

use super::spawn::{Launch, SpawnError, find_program, reason};

mod rights;

/// How the program is to differ from us. What is not given stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// `name`, `number`, either with `:group`. Supplementary groups follow the user.
    pub user: Option<String>,
    pub limits: Vec<Limit>,
    pub umask: Option<u32>,
    pub no_new_privileges: bool,
    /// Name and number of all that it may have of capabilities(7).
    pub capabilities: Option<Vec<(String, u8)>>,
    /// A variable of its environment that is to hold its own pid, which nobody knows before it is there.
    pub pid_variable: Option<String>,
    /// What leads to [`main`]: a program and the arguments before ours.
    pub helper: Vec<String>,
}

/// A limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `nofile`, `core`, …: the names of `ulimit` in limits.conf(5).
    pub resource: String,
    /// `u64::MAX`: unlimited.
    pub soft: u64,
    pub hard: u64,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            user: None,
            limits: Vec::new(),
            umask: None,
            no_new_privileges: false,
            capabilities: None,
            pid_variable: None,
            // Still us after our file was replaced by a newer release.
            helper: vec!["/proc/self/exe".to_owned(), "exec-as".to_owned()],
        }
    }
}

impl Switch {
    pub fn to_user(user: &str) -> Self {
        Self { user: Some(user.to_owned()), ..Self::default() }
    }

    pub(super) fn program(&self) -> &Path {
        Path::new(self.helper.first().map_or("/proc/self/exe", String::as_str))
    }

    /// The command line of the helper, up to and including the program's own.
    pub(super) fn argv(&self, launch: &Launch<'_>) -> Vec<String> {
        let mut argv = self.helper.clone();
        let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
        // Passed descriptors come first, the pipe of the report after them.
        option("--report", (3 + launch.passed.len()).to_string());
        if let Some(user) = &self.user {
            option("--user", user.clone());
        }
        for Limit { resource, soft, hard } in &self.limits {
            option("--limit", format!("{resource}={soft}:{hard}"));
        }
        if let Some(umask) = self.umask {
            option("--umask", format!("{umask:o}"));
        }
        if self.no_new_privileges {
            option("--no-new-privileges", "yes".to_owned());
        }
        if let Some(kept) = &self.capabilities {
            let kept: Vec<_> = kept.iter().map(|(name, n)| format!("{name}={n}")).collect();
            option("--capabilities", kept.join(","));
        }
        if let Some(name) = &self.pid_variable {
            option("--pid-variable", name.clone());
        }
        if let Some(directory) = launch.directory {
            option("--directory", directory.to_string_lossy().into_owned());
        }
        argv.push("--".to_owned());
        argv.extend(launch.argv.iter().cloned());
        argv
    }
}

/// Our end of the pipe that tells whether the program was executed.
#[derive(Debug)]
pub struct Refusal(PipeReader);

/// What the pipe says.
#[derive(Debug)]
pub enum Verdict {
    /// Still setting up; whatever is dead by now was killed before it got further.
    Pending,
    /// The program was executed: every exit from now on is its own.
    Executed,
    Refused(SpawnError),
}

impl Refusal {
    pub(super) fn new(pipe: PipeReader) -> Self {
        Self(pipe)
    }

    /// Asks without waiting. Of a process that has died the answer is final.
    pub fn verdict(&mut self) -> Verdict {
        let mut ready = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::event::poll(&mut ready, Some(&now)) {
            Ok(0) | Err(_) => return Verdict::Pending,
            Ok(_) => {}
        }
        // One write of less than PIPE_BUF bytes arrives whole.
        let mut report = [0; libc::PIPE_BUF];
        let length = self.0.read(&mut report).unwrap_or(0);
        let text = String::from_utf8_lossy(&report[..length]);
        match text.split_once('\n') {
            None => Verdict::Executed,
            Some((errno, message)) => Verdict::Refused(SpawnError::Switch {
                message: message.to_owned(),
                errno: errno.parse().unwrap_or(0),
            }),
        }
    }
}

/// Why the program was not executed.
#[derive(Debug, thiserror::Error)]
enum ExecAsError {
    #[error("exec-as does not know {0:?}")]
    Option(String),
    #[error("could not run as {user}: there is no such user on this host")]
    UserUnknown { user: String },
    #[error("could not run as {user}: there is no such group on this host")]
    GroupUnknown { user: String },
    #[error("could not run as {user}: opsdeck must run as root to switch users")]
    MayNotSwitch { user: String },
    #[error("could not keep {name}: opsdeck does not have it")]
    Capability { name: String },
    #[error("could not set the limit {limit}: {reason}", reason = reason(.errno))]
    Limit { limit: String, errno: i32 },
    #[error("{0}")]
    Spawn(#[from] SpawnError),
    #[error("could not {what}: {reason}", reason = reason(.errno))]
    Call { what: &'static str, errno: i32 },
}

impl ExecAsError {
    fn errno(&self) -> i32 {
        match self {
            Self::Option(_) => libc::EINVAL,
            Self::UserUnknown { .. } | Self::GroupUnknown { .. } => libc::ENOENT,
            Self::MayNotSwitch { .. } | Self::Capability { .. } => libc::EPERM,
            Self::Limit { errno, .. } | Self::Call { errno, .. } => *errno,
            Self::Spawn(source) => source.errno().unwrap_or(libc::EINVAL),
        }
    }
}

/// What was read from the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    report: Option<i32>,
    user: Option<String>,
    limits: Vec<(String, u64, u64)>,
    umask: Option<u32>,
    no_new_privileges: bool,
    capabilities: Option<Vec<(String, u8)>>,
    pid_variable: Option<String>,
    directory: Option<PathBuf>,
    argv: Vec<String>,
}

/// Becomes the program that `arguments` (all after `exec-as`) name; returns only if it could not.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = arguments.into_iter().map(|it| it.to_string_lossy().into_owned());
    let (report, failure) = match parse(arguments) {
        Ok(request) => (request.report, become_program(request)),
        Err(source) => (None, source),
    };
    let text = format!("{}\n{failure}", failure.errno());
    // The one who started us reads the pipe; without one, a person does.
    let told = match report.and_then(take_descriptor) {
        Some(pipe) => File::from(pipe).write_all(text.as_bytes()),
        None => writeln!(io::stderr(), "{failure}"),
    };
    ExitCode::from(if told.is_ok() { 127 } else { 126 })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Request, ExecAsError> {
    let mut request = Request::default();
    while let Some(name) = arguments.next() {
        if name == "--" {
            request.argv = arguments.collect();
            return Ok(request);
        }
        let value = arguments.next().unwrap_or_default();
        let wrong = || ExecAsError::Option(format!("{name} {value}"));
        match name.as_str() {
            "--report" => request.report = Some(value.parse().map_err(|_| wrong())?),
            "--user" => request.user = Some(value),
            "--limit" => request.limits.push(parse_limit(&value).ok_or_else(wrong)?),
            "--umask" => {
                let mask = u32::from_str_radix(&value, 8).map_err(|_| wrong())?;
                request.umask = Some(mask);
            }
            "--no-new-privileges" => request.no_new_privileges = true,
            "--capabilities" => {
                request.capabilities = Some(parse_capabilities(&value).ok_or_else(wrong)?);
            }
            "--pid-variable" => request.pid_variable = Some(value),
            "--directory" => request.directory = Some(value.into()),
            _ => return Err(wrong()),
        }
    }
    Ok(request)
}

fn parse_limit(text: &str) -> Option<(String, u64, u64)> {
    let (resource, values) = text.split_once('=')?;
    let (soft, hard) = values.split_once(':')?;
    Some((resource.to_owned(), soft.parse().ok()?, hard.parse().ok()?))
}

fn parse_capabilities(text: &str) -> Option<Vec<(String, u8)>> {
    let parts = text.split(',').filter(|it| !it.is_empty());
    let pair = |it: &str| {
        let (name, number) = it.split_once('=')?;
        Some((name.to_owned(), number.parse().ok().filter(|it| *it < 64)?))
    };
    parts.map(pair).collect()
}

/// Limits first: raising them, like switching, takes the rights that are given up then.
fn become_program(request: Request) -> ExecAsError {
    fn steps(request: &Request) -> Result<std::convert::Infallible, ExecAsError> {
        let call = |what| move |errno| ExecAsError::Call { what, errno: errno as i32 };
        if let Some(report) = request.report {
            close_on_exec(report)?;
        }
        for (resource, soft, hard) in &request.limits {
            set_limit(resource, *soft, *hard)?;
        }
        if let Some(umask) = request.umask {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        }
        let kept = request.capabilities.as_deref();
        kept.map(rights::bound).transpose()?;
        let account = request.user.as_deref().map(switch).transpose()?.flatten();
        kept.map(rights::keep).transpose()?;
        if request.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(call("give up new privileges"))?;
        }
        if let Some(path) = &request.directory {
            nix::unistd::chdir(path).map_err(|errno| SpawnError::Directory {
                path: path.clone(),
                errno: errno as i32,
            })?;
        }
        execute(request, account.as_ref())
    }
    match steps(&request) {
        Ok(never) => match never {},
        Err(source) => source,
    }
}

/// Changes groups and user for good; the account that it is now, if the host knows one.
fn switch(wanted: &str) -> Result<Option<User>, ExecAsError> {
    let unknown = || ExecAsError::UserUnknown { user: wanted.to_owned() };
    let refused = |_| ExecAsError::MayNotSwitch { user: wanted.to_owned() };
    let (name, group) = wanted.split_once(':').map_or((wanted, None), |(a, b)| (a, Some(b)));
    let account = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    let account = account.map_err(|_| unknown())?;
    let uid = account.as_ref().map(|it| it.uid).or(name.parse().ok().map(Uid::from_raw));
    let uid = uid.ok_or_else(unknown)?;
    let gid = match group {
        Some(group) => named_group(group)
            .ok_or_else(|| ExecAsError::GroupUnknown { user: wanted.to_owned() })?,
        // A bare number without an account has no group but its own.
        None => account.as_ref().map_or(Gid::from_raw(uid.as_raw()), |it| it.gid),
    };
    if uid == Uid::effective() && gid == Gid::effective() {
        return Ok(account);
    }
    match &account {
        Some(account) => {
            let name = CString::new(account.name.as_str()).map_err(|_| unknown())?;
            nix::unistd::initgroups(&name, gid).map_err(refused)?;
        }
        None => nix::unistd::setgroups(&[gid]).map_err(refused)?,
    }
    nix::unistd::setresgid(gid, gid, gid).map_err(refused)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(refused)?;
    Ok(account)
}

fn named_group(name: &str) -> Option<Gid> {
    let number = name.parse().ok().map(Gid::from_raw);
    number.or_else(|| Group::from_name(name).ok().flatten().map(|it| it.gid))
}

fn set_limit(name: &str, soft: u64, hard: u64) -> Result<(), ExecAsError> {
    let resource = match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "stack" => Resource::RLIMIT_STACK,
        _ => return Err(ExecAsError::Option(format!("--limit {name}"))),
    };
    setrlimit(resource, soft, hard).map_err(|errno| ExecAsError::Limit {
        limit: format!("{name}={soft}:{hard}"),
        errno: errno as i32,
    })
}

fn execute(
    Request { argv, pid_variable, .. }: &Request,
    account: Option<&User>,
) -> Result<std::convert::Infallible, ExecAsError> {
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if let Some(account) = account {
        let theirs = [
            ("HOME", account.dir.clone().into_os_string()),
            ("LOGNAME", account.name.clone().into()),
            ("USER", account.name.clone().into()),
        ];
        for (name, value) in theirs {
            if std::env::var_os(name).is_none() {
                environment.push((name.into(), value));
            }
        }
    }
    if let Some(name) = pid_variable {
        environment.retain(|it| it.0 != name.as_str());
        environment.push((name.into(), std::process::id().to_string().into()));
    }
    let search = std::env::var("PATH").ok();
    let path = find_program(argv.first().map_or("", String::as_str), search.as_deref(), None)?;
    let nul = |_| SpawnError::Nul { text: path.display().to_string() };
    let program = CString::new(path.as_os_str().as_bytes()).map_err(nul)?;
    let argv = argv.iter().map(|it| CString::new(it.as_str())).collect::<Result<Vec<_>, _>>();
    let environment = environment
        .iter()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>, _>>();
    // SAFETY: no handler is installed. The runtime of Rust ignores SIGPIPE; the program must not.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let errno = match nix::unistd::execve(&program, &argv.map_err(nul)?, &environment.map_err(nul)?)
    {
        Ok(never) => match never {},
        Err(errno) => errno as i32,
    };
    Err(SpawnError::execute(path, errno).into())
}

fn close_on_exec(number: i32) -> Result<(), ExecAsError> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    // SAFETY: only looked at for this one call, which refuses a number that is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number.max(0)) };
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map(drop)
        .map_err(|errno| ExecAsError::Call { what: "reach who started it", errno: errno as i32 })
}

/// The descriptor that was inherited under this number, if there is one.
fn take_descriptor(number: i32) -> Option<OwnedFd> {
    close_on_exec(number).ok()?;
    // SAFETY: it is open, we inherited it for this, and nothing else here owns it.
    (number > 2).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
#[path = "exec_as_tests.rs"]
pub(in crate::process) mod tests;
