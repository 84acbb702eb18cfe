//! Asks for one page over FastCGI (FastCGI Specification 1.0), as a web server in front of php-fpm does.
//!
//! One request on a connection of its own, which the application closes.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::names;
use super::place::{Address, Page};
use crate::probe::io_words;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
/// FCGI_RESPONDER, and no FCGI_KEEP_CONN.
const RESPONDER: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
const HEADER_BYTES: usize = 8;
/// Of everything that is read: a status page has some hundred bytes, one with all processes more.
const MOST_BYTES: u64 = 256 << 10;

/// The body of an answer that is no failure.
pub(super) async fn get(page: &Page) -> Result<Vec<u8>, String> {
    let question = question(&page.path, &page.query);
    let records = match &page.address {
        Address::Tcp(address) => {
            let all = names::addresses(address).await?;
            let stream = TcpStream::connect(&all[..]).await.map_err(|err| io_words(&err))?;
            exchange(stream, &question).await
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|err| io_words(&err))?;
            exchange(stream, &question).await
        }
    };
    answer(&records.map_err(|err| io_words(&err))?)
}

async fn exchange<S>(mut stream: S, question: &[u8]) -> std::io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(question).await?;
    let mut records = vec![];
    stream.take(MOST_BYTES).read_to_end(&mut records).await?;
    Ok(records)
}

fn question(path: &str, query: &str) -> Vec<u8> {
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut params = vec![];
    for (name, value) in [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", path),
        ("SCRIPT_FILENAME", path),
        ("REQUEST_URI", &uri),
        ("QUERY_STRING", query),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
    ] {
        length(name.len(), &mut params);
        length(value.len(), &mut params);
        params.extend([name.as_bytes(), value.as_bytes()].concat());
    }
    let mut out = vec![];
    record(BEGIN_REQUEST, &RESPONDER, &mut out);
    for piece in params.chunks(usize::from(u16::MAX)) {
        record(PARAMS, piece, &mut out);
    }
    record(PARAMS, &[], &mut out);
    record(STDIN, &[], &mut out);
    out
}

/// One byte below 128, else four of which the first bit is set (§3.4).
fn length(n: usize, out: &mut Vec<u8>) {
    match u8::try_from(n) {
        Ok(n @ ..128) => out.push(n),
        _ => out.extend((u32::try_from(n).unwrap_or(u32::MAX) | 1 << 31).to_be_bytes()),
    }
}

/// Of request 1, without padding.
fn record(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    out.extend([VERSION, kind, 0, 1, high, low, 0, 0]);
    out.extend(content);
}

/// The body in what an application has sent.
pub(super) fn answer(records: &[u8]) -> Result<Vec<u8>, String> {
    let (mut rest, mut page, mut has_ended) = (records, vec![], false);
    while let Some((kind, content, after)) = split(rest)? {
        match kind {
            STDOUT => page.extend_from_slice(content),
            END_REQUEST => has_ended = true,
            // What it logs, and what a later protocol may have.
            _ => {}
        }
        rest = after;
    }
    if !has_ended {
        return Err(match records.is_empty() {
            true => "closed before an answer".into(),
            false => "closed before the whole answer".into(),
        });
    }
    let end = memchr::memmem::find(&page, b"\r\n\r\n").ok_or("the answer has no header")?;
    let head = String::from_utf8_lossy(&page[..end]);
    let status = head.lines().find_map(|it| it.strip_prefix("Status:"));
    match status.map(|it| it.trim().get(..3).unwrap_or_default()) {
        None | Some("200") => Ok(page.split_off(end + 4)),
        Some(status) => Err(format!("answered {status}, expected 200")),
    }
}

/// Its type, its content, and what follows it.
type Record<'a> = (u8, &'a [u8], &'a [u8]);

/// The first record; `None` at the end, also within a record.
fn split(bytes: &[u8]) -> Result<Option<Record<'_>>, String> {
    let Some(&[version, kind, _, _, high, low, padding, _]) = bytes.first_chunk() else {
        return Ok(None);
    };
    if version != VERSION {
        return Err("the answer is not FastCGI".into());
    }
    let end = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let Some(content) = bytes.get(HEADER_BYTES..end) else { return Ok(None) };
    Ok(Some((kind, content, bytes.get(end + usize::from(padding)..).unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(page: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        // With padding, in two pieces, and a complaint in between.
        let (first, second) = page.split_at(page.len() / 2);
        out.extend([1, STDOUT, 0, 1, 0, u8::try_from(first.len()).unwrap(), 3, 0]);
        out.extend([first, b"xyz"].concat());
        record(7, b"PHP Warning", &mut out);
        record(STDOUT, second, &mut out);
        record(STDOUT, &[], &mut out);
        record(END_REQUEST, &[0; 8], &mut out);
        out
    }

    #[test]
    fn a_question_is_as_the_specification_has_it() {
        let long = format!("/{}", "x".repeat(200));
        let bytes = question(&long, "json");
        assert_eq!(bytes[..16], [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..20], [1, PARAMS, 0, 1]);
        assert_eq!(bytes[24..26], [14, 3], "REQUEST_METHOD and GET");
        let name = memchr::memmem::find(&bytes, b"SCRIPT_NAME/").unwrap();
        assert_eq!(bytes[name - 5..name], [11, 0x80, 0, 0, 201]);
        assert_eq!(bytes[bytes.len() - 16..], [1, 4, 0, 1, 0, 0, 0, 0, 1, 5, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn an_answer_is_put_together() {
        let page = b"Content-type: application/json\r\n\r\n{\"pool\":\"www\"}";
        assert_eq!(answer(&reply(page)).unwrap(), b"{\"pool\":\"www\"}");
        let missing = b"Status: 404 Not Found\r\nContent-type: text/html\r\n\r\nFile not found.\n";
        assert_eq!(answer(&reply(missing)), Err("answered 404, expected 200".into()));
    }

    #[test]
    fn what_is_cut_off_is_no_answer() {
        let whole = reply(b"A: b\r\n\r\nbody");
        for length in 0..whole.len() {
            assert!(answer(&whole[..length]).is_err(), "{length}");
        }
        assert_eq!(answer(b"HTTP/1.1 400 Bad"), Err("the answer is not FastCGI".into()));
        assert_eq!(answer(&reply(b"no header")), Err("the answer has no header".into()));
    }
}
