//! One process looked at closely: what `/proc/PID` tells beside its line of `stat`.
//!
//! Read when somebody asks and never for deciding. Everything is bounded: a process may have a million
//! descriptors and an environment of megabytes. Text is as its process wrote it: strip it before showing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Identity;
use super::group::{Group, Member};
use super::port::{self, socket_inode};
use super::slow;
use super::stat::Stat;
use super::table::Table;

/// What is read of an environment.
const ENVIRONMENT_BYTES: u64 = 64 << 10;
/// What is read of a command line.
const ARGUMENT_BYTES: u64 = 4 << 10;
/// Descriptors whose kind is looked up; the others only count.
const KNOWN_DESCRIPTORS: usize = 4096;

/// Everything of a group that lives, each process after its parent, with how far below a root it is. At
/// most `most` of them; the number of the others.
///
/// # Errors
///
/// Those of reading the group's cgroup.
pub fn tree(group: &Group, table: &Table, most: usize) -> io::Result<(Vec<(u32, Stat)>, usize)> {
    Ok(tree_of(group.leader(), &group.members(table)?, table, most))
}

/// The same of members that are known already.
pub fn tree_of(
    leader: Identity,
    members: &[Member],
    table: &Table,
    most: usize,
) -> (Vec<(u32, Stat)>, usize) {
    let stats: BTreeMap<i32, Stat> = members
        .iter()
        .filter_map(|it| Some((it.identity.pid, *table.stat(it.identity.pid)?)))
        .collect();
    let leader = leader.pid;
    let is_root = |it: &&Stat| !stats.contains_key(&it.parent) || it.identity.pid == leader;
    let mut roots: Vec<&Stat> = stats.values().filter(is_root).collect();
    // The leader first, then what a dead parent left behind.
    roots.sort_by_key(|it| (it.identity.pid != leader, it.identity.start_time));
    let mut line: Vec<(u32, &Stat)> = roots.into_iter().rev().map(|it| (0, it)).collect();
    let mut out = vec![];
    let mut seen = BTreeSet::new();
    while let Some((depth, stat)) = line.pop() {
        // Pids that were used again during the sweep could make a ring.
        if !seen.insert(stat.identity.pid) {
            continue;
        }
        out.push((depth, *stat));
        let children = stats.values().filter(|it| it.parent == stat.identity.pid);
        line.extend(children.rev().map(|it| (depth + 1, it)));
    }
    let more = out.len().saturating_sub(most);
    out.truncate(most);
    (out, more)
}

/// The arguments of a process, as it shows them now; none of a kernel thread or a zombie.
///
/// # Errors
///
/// ENOENT or ESRCH if it is gone, those of [`slow::read`] if it is stuck.
pub fn arguments(pid: i32) -> io::Result<Vec<String>> {
    slow::read_some(pid, "cmdline", ARGUMENT_BYTES).map(in_words)
}

/// The same of many; none of those that do not show any.
pub fn arguments_of(pids: &[i32]) -> Vec<Vec<String>> {
    let read = slow::read_each(pids, "cmdline", ARGUMENT_BYTES);
    read.into_iter().map(|it| it.map_or_else(|_| vec![], in_words)).collect()
}

fn in_words((mut bytes, is_cut): (Vec<u8>, bool)) -> Vec<String> {
    if is_cut {
        // Half an argument may no longer look like the secret that it is.
        let whole = bytes.iter().rposition(|it| *it == 0).unwrap_or(0);
        bytes.truncate(whole);
    }
    // A title that was written over the arguments ends with blanks or a row of zeros.
    while bytes.last().is_some_and(|it| matches!(it, 0 | b' ')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return vec![];
    }
    bytes.split(|it| *it == 0).map(|it| String::from_utf8_lossy(it).into_owned()).collect()
}

/// `NAME` and `value` of a process's environment by name, and whether there was more than is read.
///
/// A title may be written over it; what is no variable any more is left out.
///
/// # Errors
///
/// EACCES where ptrace(2) would not be allowed either.
pub fn environment(pid: i32) -> io::Result<(Vec<(String, String)>, bool)> {
    let (bytes, is_cut) = slow::read_some(pid, "environ", ENVIRONMENT_BYTES)?;
    let variable = |it: &[u8]| {
        let text = String::from_utf8_lossy(it);
        let (name, value) = text.split_once('=')?;
        let is_name = !name.is_empty() && name.chars().all(|it| !it.is_control() && it != ' ');
        is_name.then(|| (name.to_owned(), value.to_owned()))
    };
    let mut parts: Vec<&[u8]> = bytes.split(|it| *it == 0).collect();
    if is_cut {
        // Half a value may no longer look like the secret that it is.
        parts.pop();
    }
    let mut all: Vec<_> = parts.into_iter().filter_map(variable).collect();
    all.sort();
    Ok((all, is_cut))
}

/// A line of `/proc/PID/limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    pub soft: String,
    pub hard: String,
    pub unit: String,
}

/// The limits of a process (getrlimit(2)).
///
/// # Errors
///
/// ENOENT or ESRCH if it is gone.
pub fn limits(pid: i32) -> io::Result<Vec<Limit>> {
    Ok(parse_limits(&fs::read_to_string(format!("/proc/{pid}/limits"))?))
}

/// Columns of 26, 21, 21 and 10 characters (fs/proc/base.c, `proc_pid_limits`).
fn parse_limits(text: &str) -> Vec<Limit> {
    let column = |line: &str, from: usize, to: usize| {
        let part = line.get(from..to.min(line.len())).unwrap_or_default();
        part.trim().to_owned()
    };
    let limit = |line: &str| {
        let it = Limit {
            name: column(line, 0, 26),
            soft: column(line, 26, 47),
            hard: column(line, 47, 68),
            unit: column(line, 68, line.len()),
        };
        (!it.soft.is_empty()).then_some(it)
    };
    text.lines().skip(1).filter_map(limit).collect()
}

/// What a process has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// By kind: `file`, `socket`, `pipe`, `event`, `device`, `other`, `more` for those beyond the first thousands.
    pub kinds: BTreeMap<&'static str, u32>,
    /// Inodes of its sockets.
    pub sockets: BTreeSet<u64>,
}

/// Counts the open descriptors of a process.
///
/// # Errors
///
/// EACCES where ptrace(2) would not be allowed either.
pub fn descriptors(pid: i32) -> io::Result<u32> {
    let count = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// How many of its descriptors are of epoll(7), up to `enough`, among the first some hundred: what a server opens
/// for itself it opens before its connections.
///
/// # Errors
///
/// As [`descriptors`].
pub fn polls(pid: i32, enough: u32) -> io::Result<u32> {
    const FIRST: usize = 512;
    let mut found = 0;
    for it in fs::read_dir(format!("/proc/{pid}/fd"))?.take(FIRST) {
        let target = fs::read_link(it?.path());
        // One that was closed meanwhile is none.
        found += u32::from(target.is_ok_and(|it| it.as_os_str() == "anon_inode:[eventpoll]"));
        if found == enough {
            break;
        }
    }
    Ok(found)
}

/// Its proportional share of the memory that it has, in bytes (proc_pid_smaps(5), Linux 4.14). The kernel walks
/// all of its pages for that: some 25 µs for a small process, milliseconds for one of gigabytes.
///
/// # Errors
///
/// As [`descriptors`]; ESRCH of a process that has no memory any more.
pub fn pss(pid: i32) -> io::Result<u64> {
    let text = slow::read(pid, "smaps_rollup")?;
    parse_pss(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `Pss:                 712 kB`
fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|it| it.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Looks at the open descriptors of a process.
///
/// # Errors
///
/// As [`descriptors`].
pub fn open_files(pid: i32) -> io::Result<Open> {
    let mut open = Open::default();
    for (n, entry) in fs::read_dir(format!("/proc/{pid}/fd"))?.enumerate() {
        let kind = if n < KNOWN_DESCRIPTORS {
            // It may have been closed meanwhile.
            let Ok(target) = entry.and_then(|it| fs::read_link(it.path())) else { continue };
            let target = target.to_string_lossy();
            open.sockets.extend(socket_inode(&target));
            kind_of(&target)
        } else {
            "more"
        };
        *open.kinds.entry(kind).or_default() += 1;
    }
    Ok(open)
}

/// What a link in `/proc/PID/fd` leads to (proc_pid_fd(5)).
fn kind_of(target: &str) -> &'static str {
    match target.split_once(':') {
        Some(("socket", _)) => "socket",
        Some(("pipe", _)) => "pipe",
        Some(("anon_inode", _)) => "event",
        _ if target.ends_with(".fifo") => "pipe",
        _ if target.starts_with("/dev/") => "device",
        _ if target.starts_with('/') => "file",
        _ => "other",
    }
}

/// Where any of these sockets listens, as `0.0.0.0:9502`, sorted.
///
/// # Errors
///
/// Those of reading `/proc/net/tcp`.
pub fn listening(sockets: &BTreeSet<u64>) -> io::Result<Vec<String>> {
    if sockets.is_empty() {
        return Ok(vec![]);
    }
    let mut all = port::addresses_of(sockets)?;
    all.sort();
    all.dedup();
    Ok(all.iter().map(ToString::to_string).collect())
}

/// The paths at which any of these sockets listens (unix(7)), sorted; `@` stands before an abstract name.
///
/// # Errors
///
/// Those of reading `/proc/net/unix`.
pub fn unix_listening(sockets: &BTreeSet<u64>) -> io::Result<Vec<String>> {
    if sockets.is_empty() {
        return Ok(vec![]);
    }
    let text = fs::read("/proc/net/unix")?;
    let all: BTreeSet<String> = String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|it| unix_listener(it, sockets))
        .collect();
    Ok(all.into_iter().collect())
}

/// `ffff… 00000002 00000000 00010000 0001 01 31742 /run/app.sock`: the path, if it listens (proc_net(5)).
fn unix_listener(line: &str, sockets: &BTreeSet<u64>) -> Option<String> {
    /// `__SO_ACCEPTCON` of the kernel.
    const LISTENS: u32 = 1 << 16;
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(field)
    };
    let flags = u32::from_str_radix(field().and(field()).and(field()).and(field())?, 16).ok()?;
    let inode = field().and(field()).and(field())?.parse().ok()?;
    (flags & LISTENS != 0 && sockets.contains(&inode)).then(|| rest.to_owned())
}

/// The directory a process is in.
///
/// # Errors
///
/// As [`descriptors`].
pub fn directory(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid.to_string()).join("cwd"))
}

/// The program it executes; ends with ` (deleted)` if that file is not there any more.
///
/// # Errors
///
/// As [`descriptors`].
pub fn program(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn me() -> i32 {
        std::process::id().cast_signed()
    }

    #[test]
    fn limits_are_read_by_their_columns() {
        let text = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 1048576              files     
Max nice priority         0                    0                    
";
        let all = parse_limits(text);
        let flat: Vec<_> = all.iter().map(|it| [&*it.name, &it.soft, &it.hard, &it.unit]).collect();
        assert_eq!(
            flat,
            [
                ["Max cpu time", "unlimited", "unlimited", "seconds"],
                ["Max open files", "1024", "1048576", "files"],
                ["Max nice priority", "0", "0", ""],
            ]
        );
        assert!(limits(me()).unwrap().iter().any(|it| it.name == "Max open files"));
    }

    #[test]
    fn descriptors_of_epoll_are_counted_up_to_what_is_asked_for() {
        let create = || rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC);
        let _two = [create().unwrap(), create().unwrap()];
        assert_eq!((polls(me(), 1).unwrap(), polls(me(), 2).unwrap()), (1, 2));
        assert!(polls(-1, 1).is_err());
    }

    #[test]
    fn links_of_descriptors_are_told_apart() {
        let kinds = ["socket:[123]", "pipe:[4]", "anon_inode:[eventfd]", "/dev/null", "/srv/a b"]
            .map(kind_of);
        assert_eq!(kinds, ["socket", "pipe", "event", "device", "file"]);
        assert_eq!(kind_of("/run/opsdeck/web1.fifo"), "pipe");
        assert_eq!((socket_inode("socket:[123]"), socket_inode("pipe:[4]")), (Some(123), None));
    }

    #[test]
    fn unix_sockets_that_listen_are_told_by_their_paths() {
        let text = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 31742 /run/php fpm.sock
0000000000000000: 00000003 00000000 00000000 0001 03 31743 /run/php fpm.sock
0000000000000000: 00000002 00000000 00010000 0001 01    99 @abstract
0000000000000000: 00000002 00000000 00010000 0001 01 31744 /run/another.sock
0000000000000000: 00000002 00000000 00010000 0001 01 31745
";
        let its = [31742, 31743, 99, 31745].into();
        let told: Vec<_> = text.lines().filter_map(|it| unix_listener(it, &its)).collect();
        assert_eq!(told, ["/run/php fpm.sock", "@abstract"]);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let open = open_files(me()).unwrap();
        let path = path.display().to_string();
        assert!(unix_listening(&open.sockets).unwrap().contains(&path));
    }

    #[test]
    fn a_share_of_memory_is_told_apart_from_the_parts_of_it() {
        let text = "00400000-7fff [rollup]\nRss:    1300 kB\nPss:     712 kB\nPss_Dirty: 9 kB\n";
        assert_eq!((parse_pss(text), parse_pss("Rss: 1 kB\n")), (Some(712 << 10), None));
        assert!(pss(me()).is_ok_and(|it| it > 0));
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = open_files(me()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(listening(&open.sockets).unwrap().contains(&address));
        assert!(open.kinds["socket"] >= 1 && descriptors(me()).unwrap() >= 4);
        assert!(arguments(me()).unwrap()[0].contains("opsdeck"));
        let (environment, is_cut) = environment(me()).unwrap();
        let path = std::env::var("PATH").unwrap();
        assert!(is_cut || environment.contains(&("PATH".to_owned(), path)));
        assert_eq!(directory(me()).unwrap(), std::env::current_dir().unwrap());
        assert_eq!(program(me()).unwrap(), std::env::current_exe().unwrap());
    }
}
