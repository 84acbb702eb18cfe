//! `/stats` of Puma's control app.
//!
//! A single Puma says it of its own threads. In a cluster each worker's is what it told the master last, up to
//! `worker_check_interval` (5 s) ago, so that what is in flight is an estimate there.

use std::time::Duration;

use serde_json::Value;

use super::figures::Figures;

/// `worker_check_interval`, where nobody has set it.
const CHECKS: Duration = Duration::from_secs(5);

/// Reads one document.
pub(super) fn read(document: &[u8]) -> Result<Figures, String> {
    let value: Value =
        serde_json::from_slice(document).map_err(|_| "this is not the JSON of Puma".to_owned())?;
    let Some(workers) = value.get("worker_status").and_then(Value::as_array) else {
        return pool(&value).ok_or_else(|| "there is no `pool_capacity` in it: no Puma".into());
    };
    let pools = workers.iter().filter_map(|it| pool(it.get("last_status")?));
    let sum = pools.fold(Figures::default(), |sum, it| Figures {
        requests: add(sum.requests, it.requests),
        in_flight: add(sum.in_flight, it.in_flight),
        queued: add(sum.queued, it.queued),
        busy: add(sum.busy, it.busy),
        idle: add(sum.idle, it.idle),
        ..sum
    });
    let booted = value.get("booted_workers").and_then(Value::as_u64);
    Ok(Figures { workers: booted, is_exact: false, every: Some(CHECKS), ..sum })
}

/// What one process has: threads, and requests that wait for one.
fn pool(of: &Value) -> Option<Figures> {
    let get = |name: &str| of.get(name).and_then(Value::as_u64);
    let (capacity, most) = (get("pool_capacity")?, get("max_threads")?);
    let (busy, queued) = (most.saturating_sub(capacity), get("backlog")?);
    Some(Figures {
        requests: get("requests_count"),
        in_flight: Some(busy.saturating_add(queued)),
        is_exact: true,
        queued: Some(queued),
        busy: Some(busy),
        idle: Some(capacity),
        ..Figures::default()
    })
}

fn add(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_what_waits_for_one_are_in_flight() {
        let text = r#"{"started_at":"2026-01-14T07:09:17Z","backlog":2,"running":5,"pool_capacity":1,"busy_threads":6,"max_threads":5,"requests_count":30,"versions":{"puma":"6.6.0","ruby":{"engine":"ruby","version":"3.4.1","patchlevel":0}}}"#;
        let expected = Figures {
            requests: Some(30),
            in_flight: Some(6),
            is_exact: true,
            queued: Some(2),
            busy: Some(4),
            idle: Some(1),
            ..Figures::default()
        };
        assert_eq!(read(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_cluster_is_the_sum_of_its_workers_and_some_seconds_old() {
        let text = r#"{"started_at":"2026-01-14T07:09:17Z","workers":3,"phase":0,"booted_workers":2,"old_workers":0,"worker_status":[{"started_at":"2026-01-14T07:09:24Z","pid":64136,"index":0,"phase":0,"booted":true,"last_checkin":"2026-01-14T07:11:09Z","last_status":{"backlog":0,"running":5,"pool_capacity":3,"max_threads":5,"requests_count":2}},{"started_at":"2026-01-14T07:09:24Z","pid":64137,"index":1,"phase":0,"booted":true,"last_checkin":"2026-01-14T07:11:09Z","last_status":{"backlog":1,"running":5,"pool_capacity":0,"max_threads":5,"requests_count":5}},{"pid":64138,"index":2,"booted":false,"last_status":{}}]}"#;
        let expected = Figures {
            every: Some(CHECKS),
            requests: Some(7),
            in_flight: Some(8),
            is_exact: false,
            workers: Some(2),
            queued: Some(1),
            busy: Some(7),
            idle: Some(3),
            ..Figures::default()
        };
        assert_eq!(read(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in ["", "{}", "[]", "Invalid auth token", r#"{"backlog":0,"running":1}"#] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
