//! A connection that has to begin to speak in time. HTTP/2 asks silent clients
//! whether they are there, but only once they have said hello.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The client's preface (RFC 9113, 3.4).
const PREFACE: usize = 24;

/// The connection.
pub struct FirstBytes<I> {
    inner: I,
    /// Bytes of the preface that are to come, and until when.
    missing: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<I> FirstBytes<I> {
    /// Gives a connection so much time for its first bytes.
    pub fn new(inner: I, patience: Duration) -> Self {
        Self { inner, missing: Some((PREFACE, Box::pin(tokio::time::sleep(patience)))) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for FirstBytes<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Some((missing, deadline)) = &mut self.missing else { return polled };
        if polled.is_pending() {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            self.missing = None;
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for FirstBytes<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn silence_and_drips_end_and_a_preface_is_enough() {
        let (_client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, PATIENCE);
        let error = server.read_u8().await.expect_err("nobody says anything");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, PATIENCE);
        client.write_all(&[0; PREFACE - 1]).await.expect("room");
        let mut buffer = [0; PREFACE];
        let error = server.read_exact(&mut buffer).await.expect_err("one byte is missing");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, PATIENCE);
        client.write_all(&[0; PREFACE]).await.expect("room");
        server.read_exact(&mut buffer).await.expect("all are there");
        tokio::time::timeout(3 * PATIENCE, server.read_u8()).await.expect_err("it may be silent now");
    }
}
