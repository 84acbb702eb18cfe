//! Answers of our own, where no instance has given one.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::body::Reply;
use super::conn::Conn;
use super::instance::add;

/// A response of our own.
pub(super) fn made(conn: &Rc<Conn>, status: StatusCode, closes: bool) -> Response<Reply> {
    let gateway = &conn.gateway;
    let text: &'static [u8] = match status {
        StatusCode::BAD_GATEWAY => b"The server broke off before it had answered.\n",
        StatusCode::SERVICE_UNAVAILABLE => b"No server is ready.\n",
        StatusCode::GATEWAY_TIMEOUT => b"The server did not answer in time.\n",
        _ => b"This request is not passed on.\n",
    };
    match status {
        StatusCode::BAD_GATEWAY => add(&gateway.made_502, 1),
        StatusCode::SERVICE_UNAVAILABLE => add(&gateway.made_503, 1),
        StatusCode::GATEWAY_TIMEOUT => add(&gateway.made_504, 1),
        _ => {}
    }
    // Of a request that was begun and broken off by the client.
    conn.ticket.borrow_mut().take();
    conn.response_is_whole();
    conn.table.reports.changed();
    let mut response = Response::new(Reply::Whole(Some(Bytes::from_static(text))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if closes || conn.is_closing.get() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
