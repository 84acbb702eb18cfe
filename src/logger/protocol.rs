//! What the daemon and the logger say to each other: one JSON object a line, on a Unix stream socket.
//!
//! Apart from `api` this is the only place with wire types: the two processes may be of different releases (the logger
//! outlives the daemon), so what is sent has its own names, unknown fields are skipped, and an unknown message is
//! [`ToLogger::Unknown`] or [`FromLogger::Unknown`], never an error.
//!
//! The daemon binds the socket in the runtime directory and passes the listener to the logger as descriptor 3. A later
//! daemon connects to the same path; `ECONNREFUSED` there means that the logger is dead and a new one is to be started.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The socket's name in the runtime directory.
pub const SOCKET_NAME: &str = "logger.sock";
/// Locked by the logger as long as it lives: two never work in one runtime directory.
pub const LOCK_NAME: &str = "logger.lock";
/// What the logger has open, for its successor.
pub const STATE_NAME: &str = "logger.json";
/// The longest message, in bytes. A peer that sends more is disconnected.
pub const MESSAGE_LIMIT: usize = 64 * 1024;

/// Where the output of one instance comes from and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The instance: names the source in every message.
    pub name: String,
    /// Made by [`make_fifo`](super::make_fifo) before it is named here.
    pub fifo: PathBuf,
    /// Created at the first byte, 0600.
    pub log: PathBuf,
    /// Bytes of the file and its index after which they are rotated; less than 4 KiB counts as 4 KiB.
    pub max_size: u64,
    /// Rotated files that are kept; more than 1,000 count as 1,000.
    pub keep: u32,
}

/// Orders to the logger. They are carried out in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToLogger {
    /// Takes the output of this FIFO from now on. A name that is open already gets the new paths and limits.
    Open(Source),
    /// Takes what is in the FIFO, then lets go of it. The log stays.
    Close { name: String },
    /// Lets go of the FIFO at once; what is still in it is lost when its last writer ends.
    Forget { name: String },
    /// Answered by [`FromLogger::Flushed`] once what is in the FIFO now is in the file (or was counted as dropped).
    /// Everything that was said before it on this connection is then done and recorded as well.
    Flush { name: String, id: u64 },
    /// Answered by one [`FromLogger::Grew`] as soon as the log has grown beyond what an earlier answer said: begin with 0,
    /// read the log at each answer, and ask again with its number. Nothing is missed, and a flood is one report a read.
    Watch { name: String, after: u64 },
    /// The runtime directory was removed and is there again: binds the socket, takes the lock and writes the record
    /// there once more. What is open stays open. Nothing is done where another socket is.
    BindAnew,
    /// Takes what is in all FIFOs and exits.
    Quit,
    #[serde(other)]
    Unknown,
}

/// What the logger reports. A daemon that does not read is disconnected, it never stops the logger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromLogger {
    /// The first message of a connection: what is open already, by name. The troubles of the moment follow.
    Ready { pid: u32, open: Vec<String> },
    /// See [`ToLogger::Flush`].
    Flushed { id: u64 },
    /// See [`ToLogger::Watch`]: the bytes that went into the log in this life of the logger.
    Grew { name: String, moved: u64 },
    /// Output cannot be kept: it is being discarded so that the service does not stall. Said once, when it starts.
    Trouble { name: String, message: String, dropped_bytes: u64 },
    /// It is being kept again; the log has a line that says how much is missing.
    TroubleOver { name: String, dropped_bytes: u64 },
    /// Something the operator should know: a message nobody could read, a state file that could not be written.
    Notice { message: String },
    #[serde(other)]
    Unknown,
}

/// Returns the message as one line, newline included. Fails on a path that is not UTF-8.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads one line, with or without its newline.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web1() -> Source {
        Source {
            name: "web1".into(),
            fifo: "/run/deck/web1.fifo".into(),
            log: "/var/log/web1.log".into(),
            max_size: 4096,
            keep: 5,
        }
    }

    #[test]
    fn the_lines_on_the_wire_stay_as_they_are() {
        let orders = [
            ToLogger::Open(web1()),
            ToLogger::Close { name: "web1".into() },
            ToLogger::Forget { name: "web1".into() },
            ToLogger::Flush { name: "web1".into(), id: 7 },
            ToLogger::Watch { name: "web1".into(), after: 9 },
            ToLogger::BindAnew,
            ToLogger::Quit,
        ];
        let lines: Vec<u8> = orders.iter().flat_map(|it| encode(it).unwrap()).collect();
        insta::assert_snapshot!(String::from_utf8(lines.clone()).unwrap(), @r#"
        {"type":"open","name":"web1","fifo":"/run/deck/web1.fifo","log":"/var/log/web1.log","max_size":4096,"keep":5}
        {"type":"close","name":"web1"}
        {"type":"forget","name":"web1"}
        {"type":"flush","name":"web1","id":7}
        {"type":"watch","name":"web1","after":9}
        {"type":"bind_anew"}
        {"type":"quit"}
        "#);
        let back: Vec<ToLogger> = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| decode(line).unwrap())
            .collect();
        assert_eq!(back, orders);
    }

    #[test]
    fn the_reports_on_the_wire_stay_as_they_are() {
        let reports = [
            FromLogger::Ready { pid: 12, open: vec!["web1".into()] },
            FromLogger::Flushed { id: 7 },
            FromLogger::Grew { name: "web1".into(), moved: 12 },
            FromLogger::Trouble {
                name: "web1".into(),
                message: "disk full".into(),
                dropped_bytes: 3,
            },
            FromLogger::TroubleOver { name: "web1".into(), dropped_bytes: 9 },
            FromLogger::Notice { message: "odd".into() },
        ];
        let lines: Vec<u8> = reports.iter().flat_map(|it| encode(it).unwrap()).collect();
        insta::assert_snapshot!(String::from_utf8(lines.clone()).unwrap(), @r#"
        {"type":"ready","pid":12,"open":["web1"]}
        {"type":"flushed","id":7}
        {"type":"grew","name":"web1","moved":12}
        {"type":"trouble","name":"web1","message":"disk full","dropped_bytes":3}
        {"type":"trouble_over","name":"web1","dropped_bytes":9}
        {"type":"notice","message":"odd"}
        "#);
        let back: Vec<FromLogger> = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| decode(line).unwrap())
            .collect();
        assert_eq!(back, reports);
    }

    #[test]
    fn a_newer_daemon_may_say_more_than_we_know() {
        let unknown: ToLogger = decode(br#"{"type":"compress","level":9}"#).unwrap();
        let wider: ToLogger = decode(br#"{"type":"close","name":"web1","why":"gone"}"#).unwrap();
        assert_eq!((unknown, wider), (ToLogger::Unknown, ToLogger::Close { name: "web1".into() }));
        assert!(decode::<ToLogger>(b"{").is_err());
    }
}
