//! The body of a worker's answer, as it comes: what one read brings is one piece, however many chunks it held.
//!
//! ```text
//!   begun with what came behind the head ─▶ read ─▶ piece ─▶ … ─▶ over: the connection is given back
//!                                             └ broke, or is no HTTP: an error behind the last piece
//! ```

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::http1::{Framing, Malformed};
use super::links::Link;

/// What is read at once, and so passed on at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// The end of a body in chunks, and some space.
const END_BYTES_MAX: usize = 64;

thread_local! {
    // Of the thread, not of a connection: of those most wait, and hold nothing meanwhile.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

/// A body as it comes.
#[derive(Debug)]
pub(super) struct Pieces {
    link: Option<Link>,
    framing: Framing,
    /// Came with the head.
    first: Bytes,
    /// Behind what was given already.
    failed: Option<io::Error>,
}

impl Pieces {
    /// Of a body of which `taken` is there.
    pub(super) fn new(link: Link, framing: Framing, taken: Taken) -> Self {
        let mut pieces = Self { link: Some(link), framing, first: Bytes::new(), failed: None };
        pieces.first = pieces.after(Ok(taken));
        pieces
    }

    /// The next one, with all that came together with it; `None` at the end. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The whole body, if it came with the head.
    pub(super) fn all(&mut self) -> Option<Bytes> {
        let complete = self.link.is_none() && self.failed.is_none();
        complete.then(|| std::mem::take(&mut self.first))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if !self.first.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(link) = &mut self.link else { return Poll::Ready(None) };
            let framing = &mut self.framing;
            let read = ready!(poll_read(link.stream_mut(), cx, |bytes| read(framing, bytes)));
            self.first = self.after(read);
        }
    }

    /// Lets go of the connection as soon as nothing more is to come from it.
    fn after(&mut self, read: io::Result<Taken>) -> Bytes {
        let taken = read.unwrap_or_else(|error| Taken { failed: Some(error), ..Taken::default() });
        self.failed = taken.failed;
        if self.failed.is_some() {
            self.link = None;
        } else if taken.ended || self.framing.is_over() {
            let link = self.link.take();
            if let Some(link) = link.filter(|_| !taken.ended && !taken.left_over) {
                link.give_back();
            }
        }
        taken.data
    }
}

impl Drop for Pieces {
    /// Whoever has read what matters leaves the end to us: if it is there, the connection serves on.
    fn drop(&mut self) {
        let Some(link) = self.link.as_ref().filter(|link| link.is_reusable()) else { return };
        let mut end = [0; END_BYTES_MAX];
        let Ok(length) = link.stream().try_read(&mut end) else { return };
        let taken = read(&mut self.framing, &end[..length]);
        self.after(Ok(taken));
    }
}

/// What one read brought.
#[derive(Debug, Default)]
pub(super) struct Taken {
    data: Bytes,
    /// The connection was closed, where that is an end.
    ended: bool,
    /// More came than belongs to the body.
    left_over: bool,
    failed: Option<io::Error>,
}

/// Reads a body in what came; nothing came: the connection was closed.
pub(super) fn read(framing: &mut Framing, bytes: &[u8]) -> Taken {
    let mut taken = Taken::default();
    if bytes.is_empty() && !framing.is_over() {
        taken.ended = *framing == Framing::UntilClosed;
        taken.failed = (!taken.ended).then(|| io::ErrorKind::UnexpectedEof.into());
        return taken;
    }
    let mut data = Vec::with_capacity(bytes.len());
    match framing.take(bytes, &mut data) {
        Ok(used) => taken.left_over = used < bytes.len(),
        Err(malformed) => taken.failed = Some(bad(malformed)),
    }
    taken.data = data.into();
    taken
}

/// Reads once, what there is.
pub(super) fn poll_read<T>(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut space = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut space))?;
        Poll::Ready(Ok(take(space.filled())))
    })
}

/// As what a connection breaks with.
pub(super) fn bad(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}
