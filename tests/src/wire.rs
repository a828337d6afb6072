//! As much HTTP/1.1 as the mock worker and the bench's clients need, at next to no cost: a full client or server takes as
//! long as what is measured between them.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nobody here sends more before a body.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// One connection, kept alive from request to request.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    held: BytesMut,
}

/// Start line and headers.
#[derive(Debug)]
pub struct Head(String);

impl Head {
    /// The first line.
    pub fn start_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// A header's value; its name in lower case.
    pub fn header(&self, wanted: &str) -> Option<&str> {
        self.0.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then_some(value.trim())
        })
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.start_line().split(' ').nth(1)?.parse().ok()
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    /// How long the body is; 0 without a word.
    pub fn content_length(&self) -> usize {
        self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

impl Wire {
    /// Over a connection.
    ///
    /// # Errors
    /// As `setsockopt`.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, held: BytesMut::with_capacity(READ_BYTES) })
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// As the connection's; so all of these.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next head; `None` when the other side has closed in between.
    ///
    /// # Errors
    /// `InvalidData` where it is none.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.held, b"\r\n\r\n") {
                let bytes = self.held.split_to(end + 4);
                let text = std::str::from_utf8(&bytes).map_err(|_| bad("a head that is no text"))?;
                return Ok(Some(Head(text.to_owned())));
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(bad("a head without an end"));
            }
            if !self.read_more().await? {
                return if self.held.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// The body that belongs to a head, whole.
    ///
    /// # Errors
    /// `UnexpectedEof` where it is cut off.
    pub async fn body(&mut self, head: &Head) -> io::Result<Bytes> {
        if head.is_chunked() {
            let mut whole = BytesMut::new();
            while let Some(chunk) = self.chunk().await? {
                whole.extend_from_slice(&chunk);
            }
            return Ok(whole.freeze());
        }
        self.take(head.content_length()).await
    }

    /// The next chunk of a chunked body; `None` after the last.
    ///
    /// # Errors
    /// `InvalidData`, `UnexpectedEof`.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let end = loop {
            if let Some(end) = find(&self.held, b"\r\n") {
                break end;
            }
            self.must_read_more().await?;
        };
        let line = self.held.split_to(end + 2);
        let digits = std::str::from_utf8(&line[..end]).ok().and_then(|line| line.split(';').next());
        let length = digits.and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok());
        let length = length.ok_or_else(|| bad("a chunk without a length"))?;
        let mut chunk = self.take(length + 2).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        while self.held.len() < length {
            self.must_read_more().await?;
        }
        Ok(self.held.split_to(length).freeze())
    }

    async fn must_read_more(&mut self) -> io::Result<()> {
        if self.read_more().await? { Ok(()) } else { Err(cut()) }
    }

    async fn read_more(&mut self) -> io::Result<bool> {
        self.held.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.held).await? > 0)
    }
}

/// Appends one chunk of a chunked body.
pub fn put_chunk(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn bodies_of_both_kinds_follow_each_other_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Wire::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).unwrap();
        let mut server = Wire::new(listener.accept().await.unwrap().0).unwrap();
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        put_chunk(&mut bytes, b"data: 1\n\n");
        put_chunk(&mut bytes, b"data: 2\n\n");
        put_chunk(&mut bytes, b"");
        bytes.extend_from_slice(
            b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        );
        server.send(&bytes).await.unwrap();
        let head = client.head().await.unwrap().unwrap();
        assert_eq!((head.status(), head.is_chunked()), (Some(200), true));
        assert_eq!(client.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        assert_eq!(client.body(&head).await.unwrap(), "data: 2\n\n");
        let head = client.head().await.unwrap().unwrap();
        assert_eq!((head.status(), client.body(&head).await.unwrap()), (Some(503), "{}".into()));
        let head = client.head().await.unwrap().unwrap();
        drop(server);
        assert_eq!(client.body(&head).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
