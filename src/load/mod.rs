//! Measures load: what the kernel knows of connections, and what servers say of themselves.
//!
//! Knows no fleet: it returns numbers by port, or by the place that was asked.
//!
//! ```text
//! Source ──► Question ── ask ──► http | fastcgi | file ──► swoole | php_fpm | nginx | puma | prometheus ──► Figures
//! ```

mod fastcgi;
pub mod figures;
mod http;
pub mod losses;
mod names;
mod netlink;
mod nginx;
mod php_fpm;
mod place;
mod prometheus;
mod puma;
mod sha1;
pub mod sockets;
pub mod source;
mod swoole;

/// What a document of each kind says, for the fuzz target.
#[doc(hidden)]
pub fn read_all(document: &[u8]) {
    let _ = swoole::read(document, true);
    let _ = php_fpm::read(document, true);
    let _ = nginx::read(document);
    let _ = puma::read(document);
    let _ = fastcgi::answer(document);
    if let Ok(selector) = prometheus::Selector::parse("requests_total{code=\"200\"}") {
        let _ = prometheus::sum(document, &selector);
    }
}
