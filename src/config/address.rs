//! Addresses to listen on, as people write them.

use std::net::SocketAddr;

use crate::quantity::Wrong;

pub(crate) const HELP: &str = "write it as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"";

/// Reads `0.0.0.0:8080`, `[::]:8080`, `:8080` (every IPv4 address) or `8080` (the same).
pub(crate) fn read_listen(text: &str) -> Result<SocketAddr, Wrong> {
    let wrong = |label: &str| Wrong::new(label, HELP);
    let text = text.trim();
    let port = text.strip_prefix(':').unwrap_or(text);
    let address = match port.parse::<u16>() {
        Ok(port) => SocketAddr::from(([0, 0, 0, 0], port)),
        Err(_) => text.parse::<SocketAddr>().map_err(|_| match text.rsplit_once(':') {
            Some((host, _)) if host.starts_with(|it: char| it.is_ascii_alphabetic()) => {
                wrong("a name is not looked up here: an address is wanted")
            }
            _ => wrong("not an address with a port"),
        })?,
    };
    if address.port() == 0 { Err(wrong("port 0 is no port")) } else { Ok(address) }
}
