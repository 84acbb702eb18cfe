//! The two messages of grpc.health.v1, and what is around them on the wire.
//!
//! Written by hand, because there are two fields: `HealthCheckRequest { string service = 1 }` and
//! `HealthCheckResponse { ServingStatus status = 1 }` (health.proto of grpc/grpc-proto). Each message is preceded by
//! five bytes: whether it is compressed, and its length (PROTOCOL-HTTP2.md of grpc/grpc). Nothing here trusts a byte.

/// The one status that passes.
pub(super) const SERVING: u64 = 1;
/// The longest answer that is read, in bytes; a health check has two.
pub(super) const MOST_ANSWER: usize = 4096;

/// `HealthCheckRequest` for this service; the whole server where it is empty.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = vec![];
    if !service.is_empty() {
        // Field 1, length-delimited.
        message.push(1 << 3 | 2);
        varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed
}

fn varint(mut value: usize, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The status of a framed `HealthCheckResponse`.
///
/// # Errors
///
/// When it is no such message, with what is wrong in plain words.
pub(super) fn reply(bytes: &[u8]) -> Result<u64, String> {
    let Some((&[compressed, a, b, c, d], message)) = bytes.split_first_chunk() else {
        return Err(format!("the answer is no gRPC message: {} bytes", bytes.len()));
    };
    if compressed != 0 {
        return Err("the answer is compressed, which was not asked for".into());
    }
    let length = u32::from_be_bytes([a, b, c, d]);
    if usize::try_from(length) != Ok(message.len()) {
        return Err(format!("the answer says {length} bytes and has {}", message.len()));
    }
    status(message).ok_or_else(|| "the answer is no HealthCheckResponse".into())
}

/// Field 1 of the message, the last one if it is there more often; 0 where it is absent (proto3).
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            (1, 0) => status = take_varint(&mut message)?,
            (_, 0) => drop(take_varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The name of a `ServingStatus`.
pub(super) fn serving_name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status without a name",
    }
}

/// The name of a status code (statuscodes.md of grpc/grpc).
pub(super) fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code).ok().and_then(|it| NAMES.get(it)).copied().unwrap_or("no known code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_the_service() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("shop"), *b"\0\0\0\0\x06\x0a\x04shop");
        let long = "x".repeat(300);
        let framed = request(&long);
        assert_eq!(framed[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(framed[8..], *long.as_bytes());
    }

    #[test]
    fn a_status_is_found_among_what_later_versions_may_add() {
        assert_eq!(reply(b"\0\0\0\0\x02\x08\x01"), Ok(SERVING));
        assert_eq!(reply(b"\0\0\0\0\x00"), Ok(0));
        // Unknown fields of every kind around it; the last one counts.
        let fields = b"\x10\xff\x01\x19abcdefgh\x22\x02hi\x2dabcd\x08\x01\x08\x02";
        let framed = [&[0, 0, 0, 0, fields.len() as u8], &fields[..]].concat();
        assert_eq!(reply(&framed), Ok(2));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let said = |bytes: &[u8]| reply(bytes).unwrap_err();
        assert_eq!(said(b""), "the answer is no gRPC message: 0 bytes");
        assert_eq!(said(b"\x01\0\0\0\0"), "the answer is compressed, which was not asked for");
        assert_eq!(said(b"\0\0\0\0\x09\x08\x01"), "the answer says 9 bytes and has 2");
        for broken in [&b"\x08"[..], b"\x08\x80", b"\x0a\x05ab", b"\x0b", b"\x00\x01", b"\x09abc"] {
            let framed = [&[0, 0, 0, 0, broken.len() as u8], broken].concat();
            assert_eq!(said(&framed), "the answer is no HealthCheckResponse", "{broken:?}");
        }
        let endless = [&[0, 0, 0, 0, 11, 8][..], &[0xff; 10]].concat();
        assert_eq!(said(&endless), "the answer is no HealthCheckResponse");
    }
}
