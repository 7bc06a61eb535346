//! Requests of which it is uncertain where they end are refused: with both `Content-Length` and `Transfer-Encoding`, or
//! with several lengths (RFC 9112 §6.3). hyper takes one of them and goes on, and does not tell.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More header fields than hyper takes.
const FIELDS: usize = 128;

/// A stream of HTTP/1.1 requests whose heads are looked at as they pass. One that is uncertain is spoilt, so that hyper
/// answers it with 400 and closes the connection.
pub struct Watched<S> {
    stream: S,
    head: Vec<u8>,
    longest_head: usize,
    /// Bytes until the next head; `None`: it is not known any more, and this is the last request.
    body: Option<u64>,
}

impl<S> Watched<S> {
    /// Watches heads of up to `longest_head` bytes; hyper refuses longer ones.
    pub fn new(stream: S, longest_head: usize) -> Self {
        Self { stream, head: Vec::new(), longest_head, body: Some(0) }
    }

    fn watch(&mut self, mut bytes: &mut [u8]) {
        while let (Some(body), false) = (&mut self.body, bytes.is_empty()) {
            let skipped = usize::try_from(*body).unwrap_or(usize::MAX).min(bytes.len());
            *body -= skipped as u64;
            bytes = &mut bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            // The end may lie across two reads.
            let from = before.saturating_sub(3);
            let Some(end) = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n") else {
                if self.head.len() > self.longest_head {
                    self.body = None;
                }
                return;
            };
            let length = from + end + 4;
            let here = length - before;
            self.body = body_length(&self.head[..length]).unwrap_or_else(|Uncertain| {
                bytes[here - 1] = 0;
                None
            });
            self.head.clear();
            bytes = &mut bytes[here..];
        }
    }
}

struct Uncertain;

/// How long the body behind this head is; `None` if only the body itself tells, or if hyper will refuse the head.
fn body_length(head: &[u8]) -> Result<Option<u64>, Uncertain> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    if request.parse(head).is_err() {
        return Ok(None);
    }
    let values = |name: &'static str| {
        let fields = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii())
    };
    let encoded = values("transfer-encoding").next().is_some();
    let mut lengths = values("content-length");
    match (lengths.next(), lengths.next(), encoded) {
        (Some(_), Some(_), _) | (Some(_), None, true) => Err(Uncertain),
        (None, _, true) => Ok(None),
        (None, _, false) => Ok(Some(0)),
        (Some(length), None, false) => Ok(std::str::from_utf8(length).ok().and_then(|text| text.parse().ok())),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.watch(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper gets to see of `requests` that arrive in pieces of `size` bytes.
    fn seen(requests: &str, size: usize) -> Vec<u8> {
        let mut watched = Watched::new((), 1024);
        let mut all = requests.as_bytes().to_vec();
        all.chunks_mut(size).for_each(|piece| watched.watch(piece));
        all
    }

    #[test]
    fn e40_what_is_uncertain_is_spoilt_and_nothing_else() {
        let body = "POST / HTTP/1.1\r\nContent-Length: 36\r\n\r\nContent-Length: 1\r\nContent-Length:\r\n\r\n";
        for (requests, spoilt) in [
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
            ("POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", true),
            (body, false),
            (&format!("{body}POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"), true),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                let seen = seen(requests, size);
                assert_eq!(seen.contains(&0), spoilt, "{requests:?} in pieces of {size}");
                let changed = seen.iter().zip(requests.as_bytes()).filter(|(a, b)| a != b).count();
                assert_eq!(changed, usize::from(spoilt));
            }
        }
        let long = format!("POST / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2000));
        assert_eq!(seen(&long, 100), long.as_bytes());
    }
}
