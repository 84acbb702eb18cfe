//! The status page of a pool of php-fpm (`pm.status_path`), as JSON.

use serde_json::Value;

use super::figures::Figures;

/// Reads one page.
///
/// `counts_itself`: the process that answers is one of the active ones; not so through `pm.status_listen`.
pub(super) fn read(document: &[u8], counts_itself: bool) -> Result<Figures, String> {
    let value: Value = serde_json::from_slice(document)
        .map_err(|_| "this is not the JSON of php-fpm's status page".to_owned())?;
    let get = |name: &str| value.get(name).and_then(Value::as_u64);
    let active = get("active processes").ok_or("there are no `active processes` on this page")?;
    let busy = active.saturating_sub(u64::from(counts_itself));
    Ok(Figures {
        requests: get("accepted conn"),
        in_flight: Some(busy),
        is_exact: true,
        workers: get("total processes"),
        busy: Some(busy),
        // Whoever answers is free otherwise.
        idle: get("idle processes").map(|it| it.saturating_add(u64::from(counts_itself))),
        backlog: get("listen queue"),
        // A Unix socket's is not known to it before PHP 7.4, nor everywhere: 0.
        backlog_limit: get("listen queue len").filter(|it| *it > 0),
        started: get("start time"),
        ..Figures::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"{"pool":"www","process manager":"static","start time":1790000000,"start since":61,"accepted conn":12,"listen queue":2,"max listen queue":3,"listen queue len":511,"idle processes":0,"active processes":4,"total processes":4,"max active processes":4,"max children reached":0,"slow requests":0}"#;

    #[test]
    fn the_process_that_answers_is_not_busy() {
        let expected = Figures {
            requests: Some(12),
            in_flight: Some(3),
            is_exact: true,
            workers: Some(4),
            busy: Some(3),
            idle: Some(1),
            backlog: Some(2),
            backlog_limit: Some(511),
            started: Some(1_790_000_000),
            ..Figures::default()
        };
        assert_eq!(read(PAGE.as_bytes(), true), Ok(expected));
        assert_eq!(read(PAGE.as_bytes(), false).unwrap().busy, Some(4));
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in ["", "pool: www\n", "{}", "[]", "File not found.\n"] {
            assert!(read(text.as_bytes(), true).is_err(), "{text}");
        }
    }
}
