//! One connection to the target, and why a request on it failed.
//!
//! A client library that pools and retries would hide exactly what this program
//! is to count, so each request goes straight onto a hyper connection. A
//! connection that is *known* to be closed is replaced before the request is
//! sent: that loses nothing for anybody. A request of which a byte may have
//! left is never sent again, unless `--resend` asks for what browsers do.

use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::options::Target;

/// Why there is no complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody listens.
    Refused,
    /// The connection was reset, at whatever point.
    Reset,
    /// `--timeout` was over.
    TimedOut,
    /// The connection was closed before the whole reply had come.
    Closed,
    Other(String),
}

/// What came of sending a request.
pub(super) enum Sent {
    /// A complete reply with this status.
    Reply(u16),
    /// The connection had closed before a byte of the request was sent.
    Unsent,
    /// The connection ended before the first byte of a reply.
    Lost(Failure),
    Failed(Failure),
}

type Driver = http1::Connection<TokioIo<Counted>, Full<Bytes>>;

pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Drive,
    /// Bytes of replies so far.
    received: Arc<AtomicU64>,
}

/// What moves the bytes, until it has ended.
enum Drive {
    Under(Pin<Box<Driver>>),
    /// The driver itself is gone: as long as it is there, a sender waits for it, also for ever.
    Over(Result<(), hyper::Error>),
}

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
        let stream = stream.map_err(|error| from_io(&error))?;
        stream.set_nodelay(true).map_err(|error| from_io(&error))?;
        let received = Arc::default();
        let stream = Counted { stream, received: Arc::clone(&received) };
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| from_hyper(&error))?;
        Ok(Self { sender, driver: Drive::Under(Box::pin(driver)), received })
    }

    /// Waits until the connection takes a request; false when it is closed.
    pub(super) async fn is_usable(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        with_driver(driver, sender.ready()).await.is_ok() && matches!(driver, Drive::Under(_))
    }

    /// Ends when the other side closes the connection.
    pub(super) async fn closed(&mut self) {
        if let Drive::Under(driver) = &mut self.driver {
            self.driver = Drive::Over(driver.await);
        }
    }

    /// Sends the request and reads the whole reply.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Sent {
        let Self { sender, driver, received } = self;
        let before = received.load(Relaxed);
        let exchange = async {
            let mut response = match sender.try_send_request(request).await {
                Ok(response) => response,
                // It gives the request back when not a byte of it was sent.
                Err(error) if error.message().is_some() => return Ok(Sent::Unsent),
                Err(error) => return Err(error.into_error()),
            };
            while let Some(frame) = response.body_mut().frame().await {
                frame?;
            }
            Ok(Sent::Reply(response.status().as_u16()))
        };
        match with_driver(driver, exchange).await {
            Ok(sent) => sent,
            // The driver may have seen the reset that the request only hears of.
            Err(error) => {
                let failure = match (from_hyper(&error), driver) {
                    (Failure::Closed | Failure::Other(_), Drive::Over(Err(cause))) => {
                        from_hyper(cause)
                    }
                    (failure, _) => failure,
                };
                let is_lost = matches!(failure, Failure::Closed | Failure::Reset)
                    && received.load(Relaxed) == before;
                if is_lost { Sent::Lost(failure) } else { Sent::Failed(failure) }
            }
        }
    }
}

/// The stream, and how much came from it.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Drives the connection until `work` is done.
async fn with_driver<T>(driver: &mut Drive, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    if let Drive::Under(under) = driver {
        tokio::select! {
            biased;
            // First, so that a close which has arrived is seen before a request is sent.
            result = under.as_mut() => *driver = Drive::Over(result),
            done = &mut work => return done,
        }
    }
    work.await
}

fn from_hyper(error: &hyper::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return from_io(error);
        }
        cause = error.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Failure::Closed;
    }
    if error.is_parse() {
        return Failure::Other("the reply is not HTTP".to_owned());
    }
    Failure::Other(error.to_string())
}

fn from_io(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Reset,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::UnexpectedEof => Failure::Closed,
        _ => Failure::Other(error.to_string()),
    }
}
