//! `Server::stats()` of Swoole, as a route, its `stats_file` or its admin server have it; of OpenSwoole too.
//!
//! `idle_worker_num` is not read: a worker whose coroutines all wait for a database counts as idle. What is in
//! flight is `concurrency`, which Swoole has from 5.1 on: what came over HTTP (`onBeforeRequest`), exact from 5.1.5
//! on. `worker_num` and `task_worker_num` are what was configured, and together what SIGUSR1 renews. `tasking_num` counts the tasks that wait: one that begins is taken off it (`onTask`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::figures::Figures;

/// Reads one document: JSON, JSON in the `data` of an answer of the admin server, or lines of `key: value`.
///
/// `counts_itself`: the request that asked is among those that are counted.
pub(super) fn read(document: &[u8], counts_itself: bool) -> Result<Figures, String> {
    let numbers = numbers(document)?;
    let get = |names: &[&str]| names.iter().find_map(|it| numbers.get(*it).copied());
    let own = u64::from(counts_itself);
    let figures = Figures {
        requests: get(&["request_count", "requests_total"]),
        in_flight: get(&["concurrency"]).map(|it| it.saturating_sub(own)),
        is_exact: true,
        connections: get(&["connection_num", "connections_active"])
            .map(|it| it.saturating_sub(own)),
        workers: get(&["worker_num", "workers_total"]),
        task_workers: get(&["task_worker_num", "task_workers_total"]),
        busy: None,
        idle: None,
        queued: get(&["tasking_num"]),
        coroutines: get(&["coroutine_num"]),
        backlog: None,
        backlog_limit: None,
        every: None,
        started: get(&["start_time", "start_seconds"]),
    };
    if figures.requests.is_none() && figures.connections.is_none() {
        return Err("this is not what Server::stats() returns: no request_count in it".into());
    }
    Ok(figures)
}

fn numbers(document: &[u8]) -> Result<BTreeMap<String, u64>, String> {
    let text = String::from_utf8_lossy(document);
    let text = text.trim();
    if text.starts_with('{') {
        let value: Value =
            serde_json::from_str(text).map_err(|err| format!("this is no JSON: {err}"))?;
        let data = value.get("data").filter(|_| value.get("code").is_some());
        // The admin server answers from the master, which has a few coroutines of its own.
        let is_told = |key: &str| data.is_none() || key != "coroutine_num";
        if let Some(why) = data.and_then(Value::as_str) {
            let why: String = why.chars().take(100).collect();
            return Err(format!("the admin server refused: {why}"));
        }
        let fields = data.unwrap_or(&value).as_object().into_iter().flatten();
        let fields = fields.filter(|(key, _)| is_told(key));
        return Ok(fields.filter_map(|(key, it)| Some((key.clone(), it.as_u64()?))).collect());
    }
    let line = |it: &str| {
        let (key, value) = it.split_once(':')?;
        Some((key.trim().to_owned(), value.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Swoole 6.2.2, process mode, one task worker; while three other requests wait for something.
    const ROUTE: &str = r#"{"start_time":1790000000,"connection_num":5,"abort_count":0,"accept_count":12,"close_count":7,"worker_num":2,"task_worker_num":1,"user_worker_num":0,"idle_worker_num":2,"dispatch_count":40,"request_count":21,"response_count":17,"total_recv_bytes":2050,"total_send_bytes":3120,"pipe_packet_msg_id":41,"concurrency":4,"session_round":12,"min_fd":8,"max_fd":14,"worker_request_count":11,"worker_response_count":9,"worker_dispatch_count":20,"worker_concurrency":2,"task_idle_worker_num":0,"tasking_num":6,"coroutine_num":3,"coroutine_peek_num":4}"#;

    #[test]
    fn a_route_counts_the_request_that_asks() {
        let expected = Figures {
            requests: Some(21),
            in_flight: Some(3),
            is_exact: true,
            connections: Some(4),
            workers: Some(2),
            task_workers: Some(1),
            queued: Some(6),
            coroutines: Some(3),
            started: Some(1_790_000_000),
            ..Figures::default()
        };
        assert_eq!(read(ROUTE.as_bytes(), true), Ok(expected));
    }

    #[test]
    fn the_admin_server_does_not_and_wraps_it() {
        let it = read(format!("{{\"code\":0,\"data\":{ROUTE}}}").as_bytes(), false).unwrap();
        assert_eq!((it.in_flight, it.connections, it.coroutines), (Some(4), Some(5), None));
        let refused = read(br#"{"code":4003,"data":"Bad access token"}"#, false);
        assert_eq!(refused, Err("the admin server refused: Bad access token".into()));
    }

    #[test]
    fn a_stats_file_has_lines() {
        let text = "start_time: 1790000000\nconnection_num: 1\nrequest_count: 7\nconcurrency: 1\nworker_num: 4\n";
        let it = read(text.as_bytes(), false).unwrap();
        assert_eq!((it.requests, it.in_flight, it.workers), (Some(7), Some(1), Some(4)));
        assert_eq!(it.renewed(), None, "it may have task workers too");
        let it = read(format!("{text}task_worker_num: 3\n").as_bytes(), true).unwrap();
        assert_eq!(it.renewed(), Some(7));
    }

    #[test]
    fn before_5_1_nothing_tells_what_is_in_flight() {
        let text = r#"{"start_time":1,"connection_num":1,"request_count":9,"idle_worker_num":0}"#;
        assert_eq!(read(text.as_bytes(), true).unwrap().in_flight, None);
    }

    #[test]
    fn openswoole_has_other_names() {
        let text = r#"{"up":1,"version":"22.1.2","workers_total":4,"workers_idle":3,"requests_total":90,"connections_active":2,"start_seconds":44}"#;
        let it = read(text.as_bytes(), true).unwrap();
        assert_eq!((it.requests, it.workers, it.in_flight), (Some(90), Some(4), None));
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in
            ["", "<html>", "{\"a\":1}", "{", "{}", "[1]", "<?php return ['request_count' => 1];"]
        {
            assert!(read(text.as_bytes(), true).is_err(), "{text}");
        }
    }
}
