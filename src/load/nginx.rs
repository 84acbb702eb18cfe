//! The page of ngx_http_stub_status_module.
//!
//! ```text
//! Active connections: 291
//! server accepts handled requests
//!  16630948 16630948 31070465
//! Reading: 6 Writing: 179 Waiting: 106
//! ```

use super::figures::Figures;

/// Reads one page. The request that asked is `Writing`, on one of the connections.
pub(super) fn read(document: &[u8]) -> Result<Figures, String> {
    parse(&String::from_utf8_lossy(document))
        .ok_or_else(|| "this is not the page of stub_status".into())
}

fn parse(text: &str) -> Option<Figures> {
    let mut lines = text.lines();
    let active: u64 = lines.next()?.strip_prefix("Active connections:")?.trim().parse().ok()?;
    lines.next().filter(|it| it.contains("accepts handled requests"))?;
    let requests = lines.next()?.split_whitespace().nth(2)?.parse().ok()?;
    let mut words = lines.next()?.split_whitespace();
    let mut number = |name: &str| -> Option<u64> {
        words.next().filter(|it| *it == name)?;
        words.next()?.parse().ok()
    };
    let (reading, writing) = (number("Reading:")?, number("Writing:")?);
    Some(Figures {
        requests: Some(requests),
        in_flight: Some(reading.saturating_add(writing).saturating_sub(1)),
        is_exact: true,
        connections: Some(active.saturating_sub(1)),
        ..Figures::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \nReading: 6 Writing: 179 Waiting: 106 \n";

    #[test]
    fn what_reads_or_writes_is_in_flight() {
        let expected = Figures {
            requests: Some(31_070_465),
            in_flight: Some(184),
            is_exact: true,
            connections: Some(290),
            ..Figures::default()
        };
        assert_eq!(read(PAGE.as_bytes()), Ok(expected));
    }

    #[test]
    fn anything_else_is_an_error() {
        for cut in 0..PAGE.find("Waiting").unwrap() - 4 {
            assert!(read(&PAGE.as_bytes()[..cut]).is_err(), "{cut}");
        }
        assert!(read(b"<html><body>Active connections: 3</body></html>").is_err());
        assert!(read(&[0xff; 64]).is_err());
    }
}
