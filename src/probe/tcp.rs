//! Probes that only connect.
//!
//! Passing proves little: a server that drains with its listener open passes
//! too. The screen says so where this is the only probe.

use tokio::net::TcpStream;

use super::http::io_words;

/// Connects and hangs up.
pub(super) async fn ask(host: &str, port: u16) -> Result<(), String> {
    TcpStream::connect((host, port)).await.map(drop).map_err(|error| io_words(&error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::probe::testing::{Manner, once, serve, tcp_probe};

    #[tokio::test]
    async fn a_listener_passes_even_when_it_never_answers() {
        let server = serve(Manner::Hang).await;
        let outcome = once(tcp_probe(server.port)).await;
        assert_eq!((outcome.ok, outcome.status, outcome.error), (true, None, None));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let port = serve(Manner::Hang).await.close().await;
        let outcome = once(tcp_probe(port)).await;
        assert_eq!((outcome.ok, outcome.error.as_deref()), (false, Some("connection refused")));
        assert!(outcome.latency < Duration::from_secs(5));
    }
}
