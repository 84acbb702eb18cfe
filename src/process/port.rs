//! Who holds a TCP port, asked before an instance is started on it.
//!
//! An instance whose port is taken exits with 255 five times before anybody reads its log. Asking
//! is cheap while the port is free: it is bound for a moment. Only if that fails are the kernel's
//! listeners read, and then the open files of every process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::slow;
use super::stat::{Comm, Stat, sweep};

/// Whoever listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The one that started first, of those that share the listener. `None`: it cannot be seen
    /// from here (another user's, another container's, the kernel's).
    pub pid: Option<i32>,
    /// Its short name, `?` if it cannot be seen.
    pub name: String,
    /// Its command line, arguments joined by blanks, control characters escaped; may be empty.
    pub command: String,
    /// What it listens on.
    pub address: SocketAddr,
}

impl fmt::Display for Holder {
    /// `php (pid 4711)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", self.name),
            None => f.write_str("a process that cannot be seen from here"),
        }
    }
}

/// Finds out who listens on a TCP port, on whatever address; `None`: nobody.
pub fn holder(port: u16) -> io::Result<Option<Holder>> {
    if port == 0 || is_free(port) {
        return Ok(None);
    }
    let Some(listener) = listener(port)? else { return Ok(None) };
    Ok(Some(named(listener)))
}

/// A port that nobody has, for whoever binds it next.
///
/// The kernel gives listeners another half of its range than connections, so hardly anybody is faster.
pub fn pick() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// Whether the port can be bound on every address of both families.
///
/// With SO_REUSEADDR, as servers do: connections of the last generation in TIME_WAIT are no
/// obstacle, listeners are. Nothing is ever listened on, so no client can notice.
pub fn is_free(port: u16) -> bool {
    let attempt = |family, address: IpAddr| -> Result<(), Errno> {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if family == AddressFamily::INET6 {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        bind(&socket, &SocketAddr::new(address, port))
    };
    match attempt(AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()) {
        // No IPv6 on this host.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            attempt(AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()).is_ok()
        }
        answer => answer.is_ok(),
    }
}

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// As links in `/proc/PID/fd` name it.
    pub inode: u64,
}

/// All sockets that listen on this port.
///
/// # Errors
///
/// Those of reading `/proc/net/tcp`.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = vec![];
    each_listener(|it| {
        if it.address.port() == port {
            found.push(it);
        }
        false
    })?;
    Ok(found)
}

/// Which of these sockets are TCP connections that are established, and with whom.
///
/// # Errors
///
/// As [`listeners`].
pub fn connections(inodes: &BTreeSet<u64>) -> io::Result<BTreeMap<u64, SocketAddr>> {
    let mut found = BTreeMap::new();
    each_socket(|it| {
        if it.state == ESTABLISHED && inodes.contains(&it.inode) {
            found.insert(it.inode, it.peer);
        }
        false
    })?;
    Ok(found)
}

/// Where these sockets listen, by their inodes.
pub(super) fn addresses_of(inodes: &BTreeSet<u64>) -> io::Result<Vec<SocketAddr>> {
    let mut found = vec![];
    each_listener(|it| {
        if inodes.contains(&it.inode) {
            found.push(it.address);
        }
        false
    })?;
    Ok(found)
}

/// The inode of a socket, as a link in `/proc/PID/fd` names it.
pub(super) fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The ports that any of these processes listens on.
pub fn listened_on(pids: &[i32]) -> io::Result<BTreeSet<u16>> {
    let open = |pid: &i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = pids.iter().flat_map(open).filter_map(|it| fs::read_link(it.path()).ok());
    let inodes = links.filter_map(|it| socket_inode(it.to_str()?));
    Ok(addresses_of(&inodes.collect())?.iter().map(SocketAddr::port).collect())
}

/// Whether a process was told this number, in its arguments or its environment.
pub fn is_told(pid: i32, port: u16) -> bool {
    let text = port.to_string();
    ["cmdline", "environ"].iter().any(|file| {
        let bytes = slow::read(pid, file).unwrap_or_default();
        bytes.split(|it| !it.is_ascii_digit()).any(|it| it == text.as_bytes())
    })
}

fn listener(port: u16) -> io::Result<Option<Listener>> {
    let mut found = None;
    each_listener(|it| {
        if it.address.port() == port {
            found = Some(it);
        }
        found.is_some()
    })?;
    Ok(found)
}

/// Shows every listener of this network namespace until `enough` says so.
fn each_listener(mut enough: impl FnMut(Listener) -> bool) -> io::Result<()> {
    // Listeners come first; there may be thousands of connections behind them.
    each_socket_while(
        |it| it.state == LISTEN,
        |it| enough(Listener { address: it.address, inode: it.inode }),
    )
}

/// Shows every TCP socket of this network namespace until `enough` says so.
fn each_socket(enough: impl FnMut(Socket) -> bool) -> io::Result<()> {
    each_socket_while(|_| true, enough)
}

/// Of each family as many as are wanted in a row.
fn each_socket_while(
    is_wanted: impl Fn(&Socket) -> bool,
    mut enough: impl FnMut(Socket) -> bool,
) -> io::Result<()> {
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match fs::File::open(table) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            match parse(&line?).filter(|it| is_wanted(it)) {
                Some(found) if enough(found) => return Ok(()),
                Some(_) => {}
                None => break,
            }
        }
    }
    Ok(())
}

/// A line of `/proc/net/tcp` or `tcp6` (proc_pid_net(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    peer: SocketAddr,
    /// As the kernel numbers them (include/net/tcp_states.h).
    state: u8,
    inode: u64,
}

const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// Reads a line; `None` if it is none.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let address = address_of(fields.next()?)?;
    let peer = address_of(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Socket { address, peer, state, inode })
}

/// `0100007F:251E`.
fn address_of(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each 32 bits of an address are printed as a number of this machine.
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let bytes: Vec<u8> = (0..4).map(word).collect::<Option<Vec<_>>>()?.concat();
            IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn named(Listener { address, inode }: Listener) -> Holder {
    let wanted = format!("socket:[{inode}]");
    let holds = |it: &Stat| {
        let files = fs::read_dir(format!("/proc/{}/fd", it.identity.pid)).ok();
        files.into_iter().flatten().flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        })
    };
    // A server's workers hold its listener too; the one that opened it is the oldest.
    let mut processes = sweep().unwrap_or_default();
    processes.sort_by_key(|it| (it.identity.start_time, it.identity.pid));
    match processes.iter().find(|it| holds(it)) {
        Some(stat) => Holder {
            pid: Some(stat.identity.pid),
            name: Comm::to_string(&stat.name),
            command: command_line(stat.identity.pid),
            address,
        },
        None => Holder { pid: None, name: "?".to_owned(), command: String::new(), address },
    }
}

/// Bytes of a command line that are of use in a message.
const COMMAND_BYTES: usize = 300;

fn command_line(pid: i32) -> String {
    let bytes = slow::read(pid, "cmdline").unwrap_or_default();
    let bytes = bytes.get(..COMMAND_BYTES).unwrap_or(&bytes);
    let text = String::from_utf8_lossy(bytes).replace('\0', " ");
    text.trim_end().chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_is_named_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();

            let holder = holder(address.port()).unwrap().unwrap();

            assert_eq!(holder.pid, Some(std::process::id().cast_signed()), "{address}");
            assert_eq!(holder.address, address);
            assert!(holder.to_string().starts_with("opsdeck-"), "{holder}");
            assert!(holder.command.contains("deps/opsdeck-"), "{}", holder.command);
        }
    }

    #[test]
    fn a_port_is_free_once_its_listener_is_gone_even_with_connections_in_time_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        // The side that closes first waits.
        drop(served);
        drop(client);
        drop(listener);

        assert_eq!(holder(address.port()).unwrap(), None);
        assert!(TcpListener::bind(address).is_ok(), "asking leaves nothing behind");
    }

    #[test]
    fn the_ports_of_a_process_are_found() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|it| TcpListener::bind(it).unwrap());
        let found = listened_on(&[std::process::id().cast_signed()]).unwrap();
        for port in listeners.map(|it| it.local_addr().unwrap().port()) {
            assert!(found.contains(&port), "{port} is not in {found:?}");
        }
        assert_eq!(listened_on(&[]).unwrap(), BTreeSet::new());
    }

    #[test]
    fn open_connections_are_told_from_other_sockets() {
        let me = std::process::id().cast_signed();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = |fd: &dyn std::os::fd::AsRawFd| {
            let link = fs::read_link(format!("/proc/{me}/fd/{}", fd.as_raw_fd())).unwrap();
            socket_inode(link.to_str().unwrap()).unwrap()
        };
        let both = BTreeSet::from([inode(&listener), inode(&client)]);
        let with = BTreeMap::from([(inode(&client), listener.local_addr().unwrap())]);
        assert_eq!(connections(&both).unwrap(), with);
        let here = listeners(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(here.iter().map(|it| it.inode).collect::<Vec<_>>(), [inode(&listener)]);
    }

    #[test]
    fn asking_for_no_port_is_answered() {
        assert_eq!(holder(0).unwrap(), None);
    }

    #[test]
    fn lines_of_both_tables_are_read() {
        let four = "   0: 0100007F:251E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
            1000        0 4242 1 0000000000000000 100 0 0 10 0";
        let address = "127.0.0.1:9502".parse().unwrap();
        let peer = "0.0.0.0:0".parse().unwrap();
        let expected = Socket { address, peer, state: LISTEN, inode: 4242 };
        assert_eq!(parse(four), Some(expected));
        let open = parse(&four.replace(" 0A ", " 01 "));
        assert_eq!(open, Some(Socket { state: ESTABLISHED, ..expected }));

        let six = four.replace("0100007F", "00000000000000000000000001000000");
        let six = six.replace("00000000:0000 0A", "00000000000000000000000000000000:0000 0A");
        let (address, peer) = ("[::1]:9502".parse().unwrap(), "[::]:0".parse().unwrap());
        let expected = Socket { address, peer, ..expected };
        assert_eq!(parse(&six), Some(expected));
        for line in [
            "",
            "  sl  local_address rem_address   st",
            "0: 01:1 0:0 0A",
            "0: é:1 0:0 0A 0 0 0 0 0 0",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
