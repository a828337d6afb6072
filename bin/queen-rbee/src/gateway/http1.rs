//! A worker's answer in HTTP/1.1, read as strictly as sharing a connection asks for. Pure.
//!
//! ```text
//!   bytes ─▶ head ─▶ Framing ─▶ Length(n) ─ 0 left ─▶ done
//!                        ├────▶ chunk size ─▶ data ─▶ … ─▶ size 0 ─▶ trailers ─▶ done
//!                        └────▶ until the connection is closed
//! ```
//!
//! Written by hand, as a full client hands over each chunk of its own, and nearly all of the way through queen went there.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Lines of a head, and its bytes.
const HEADERS_MAX: usize = 100;
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What may stand around the data of one body beside lengths: extensions and trailers.
const ASIDE_BYTES_MAX: usize = 16 * 1024;

/// Not HTTP as we speak it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker sent {0}")]
pub(super) struct Malformed(&'static str);

/// The head of an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Head {
    /// Not 1xx.
    pub(super) status: StatusCode,
    /// All of them.
    pub(super) headers: HeaderMap,
    /// How the body comes.
    pub(super) framing: Framing,
    /// Whether the connection may be used again behind the body.
    pub(super) kept_alive: bool,
    /// Bytes that it takes, those of heads before it that are no answer included.
    pub(super) length: usize,
}

/// How a body comes, and where in it we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked {
        /// In the current one.
        at: Chunk,
        /// Bytes of extensions and trailers so far.
        aside: usize,
    },
    /// All that comes.
    UntilClosed,
}

/// Where in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    Size { size: u64, digits: bool },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerBegin,
    Trailer,
    EndLf,
    Over,
}

/// The head of an answer to a POST; `None`: there is more to come.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut skipped = 0;
    loop {
        let mut space = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut space);
        let length = match parsed.parse(&bytes[skipped..]) {
            Ok(httparse::Status::Complete(length)) => skipped + length,
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => {
                return Err(Malformed("a head without an end"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Malformed("a head that is not HTTP")),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Malformed("a status that is none"))?;
        match status {
            StatusCode::SWITCHING_PROTOCOLS => return Err(Malformed("another protocol than was asked for")),
            status if status.is_informational() => skipped = length,
            status => return answered(status, parsed.version == Some(1), parsed.headers, length).map(Some),
        }
    }
}

fn answered(
    status: StatusCode,
    is_1_1: bool,
    lines: &[httparse::Header<'_>],
    length: usize,
) -> Result<Head, Malformed> {
    let mut headers = HeaderMap::with_capacity(lines.len() + 2);
    let (mut body_length, mut chunked, mut kept_alive) = (None, false, is_1_1);
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed("a header without a name"))?;
        let value = HeaderValue::from_bytes(line.value).map_err(|_| Malformed("a header that is none"))?;
        if name == CONTENT_LENGTH {
            let said = number(line.value).ok_or(Malformed("a length that is none"))?;
            if body_length.is_some_and(|before| before != said) {
                return Err(Malformed("two lengths of one body"));
            }
            body_length = Some(said);
        } else if name == TRANSFER_ENCODING {
            // Others were not asked for; twice the same would be chunks in chunks.
            if chunked || !is_1_1 || !line.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed("a body in an encoding that nobody asked for"));
            }
            chunked = true;
        } else if name == CONNECTION {
            let mut words = line.value.split(|byte| *byte == b',');
            kept_alive &= !words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
        }
        headers.append(name, value);
    }
    let framing = match (body_length, chunked) {
        _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Framing::Length(0),
        (_, true) => Framing::Chunked { at: Chunk::Size { size: 0, digits: false }, aside: 0 },
        (Some(length), false) => Framing::Length(length),
        (None, false) => Framing::UntilClosed,
    };
    // Of two words for one thing somebody between us may have believed the other.
    let doubtful = chunked && (body_length.is_some() || framing.is_over());
    kept_alive &= !doubtful && framing != Framing::UntilClosed;
    Ok(Head { status, headers, framing, kept_alive, length })
}

/// Digits alone: `+1` is a number elsewhere.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

impl Framing {
    /// Whether the body is complete.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked { at: Chunk::Over, .. })
    }

    /// Moves what belongs to the body from `bytes` to `data`; how many bytes were taken. On an error `data` has what
    /// came before it.
    pub(super) fn take(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Result<usize, Malformed> {
        match self {
            Self::UntilClosed => {
                data.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Self::Length(left) => {
                let part = first(bytes, *left);
                data.extend_from_slice(part);
                *left -= part.len() as u64;
                Ok(part.len())
            }
            Self::Chunked { at, aside } => {
                let mut taken = 0;
                while taken < bytes.len() && *at != Chunk::Over {
                    if let Chunk::Data { left } = at {
                        let part = first(&bytes[taken..], *left);
                        data.extend_from_slice(part);
                        *left -= part.len() as u64;
                        taken += part.len();
                        if *left == 0 {
                            *at = Chunk::DataCr;
                        }
                        continue;
                    }
                    *at = at.after(bytes[taken], aside)?;
                    taken += 1;
                }
                Ok(taken)
            }
        }
    }
}

fn first(bytes: &[u8], max: u64) -> &[u8] {
    &bytes[..usize::try_from(max).unwrap_or(usize::MAX).min(bytes.len())]
}

impl Chunk {
    /// Where one byte leads that is no data.
    fn after(self, byte: u8, aside: &mut usize) -> Result<Self, Malformed> {
        let begin = |size| if size == 0 { Self::TrailerBegin } else { Self::Data { left: size } };
        let mut count = |next| {
            *aside += 1;
            if *aside > ASIDE_BYTES_MAX { Err(Malformed("chunks that say too much beside")) } else { Ok(next) }
        };
        match (self, byte) {
            (Self::Size { size, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                Ok(Self::Size { size: size.ok_or(Malformed("a chunk without bounds"))?, digits: true })
            }
            (Self::Size { size, digits: true }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Size { size, digits: true } | Self::Extension { size }, b';' | b' ' | b'\t') => {
                count(Self::Extension { size })
            }
            (Self::Extension { size }, b'\r') => Ok(Self::SizeLf { size }),
            // A line that ends otherwise ends elsewhere for others.
            (Self::Extension { .. }, b'\n') => Err(Malformed("a chunk that does not fit its length")),
            (Self::Extension { size }, _) => count(Self::Extension { size }),
            (Self::SizeLf { size }, b'\n') => Ok(begin(size)),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size { size: 0, digits: false }),
            (Self::TrailerBegin, b'\r') => Ok(Self::EndLf),
            (Self::Trailer, b'\n') => count(Self::TrailerBegin),
            (Self::TrailerBegin | Self::Trailer, _) => count(Self::Trailer),
            (Self::EndLf, b'\n') => Ok(Self::Over),
            _ => Err(Malformed("a chunk that does not fit its length")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(answer: &[u8], step: usize) -> Result<(Head, Vec<u8>, usize), Malformed> {
        let (mut held, mut at) = (Vec::new(), 0);
        let mut head = loop {
            held.extend_from_slice(&answer[at..(at + step).min(answer.len())]);
            at = held.len();
            if let Some(head) = head(&held)? {
                break head;
            }
            assert!(at < answer.len(), "a head without an end");
        };
        let (mut body, mut taken) = (Vec::new(), head.length);
        for part in answer[head.length..].chunks(step) {
            taken += head.framing.take(part, &mut body)?;
            if head.framing.is_over() {
                break;
            }
        }
        Ok((head, body, taken))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nB;x=\"1\"\r\n0123456789a\r\n0\r\nT: 1\r\n\r\n";
        let length = "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 No\r\ncontent-length: 4\r\nContent-Length: 4\r\n\r\nabcd";
        for (answer, status, body) in [
            (chunked, 200, "abc0123456789a"),
            (length, 404, "abcd"),
            ("HTTP/1.1 204 x\r\n\r\n", 204, ""),
            ("HTTP/1.1 304 x\r\ncontent-length: 9\r\n\r\n", 304, ""),
        ] {
            for step in 1..answer.len() + 6 {
                let (head, found, taken) = read(format!("{answer}HTTP/").as_bytes(), step).unwrap();
                assert_eq!((head.status.as_u16(), found.as_slice(), taken), (status, body.as_bytes(), answer.len()));
                assert!(head.framing.is_over() && head.kept_alive);
            }
        }
    }

    #[test]
    fn what_leaves_doubt_ends_the_connection() {
        for (head, body) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "abc"),
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", "abc"),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 3\r\n\r\n", "abc"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        ] {
            let (head, found, _) = read(format!("{head}{body}").as_bytes(), 999).unwrap();
            assert!(!head.kept_alive);
            assert!(found.starts_with(b"abc"));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for answer in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 101 Switch\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x\nab\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n",
        ] {
            assert!(read(answer.as_bytes(), 999).is_err(), "{answer}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{}", "x".repeat(20_000));
        assert!(read(endless.as_bytes(), 100_000).is_err());
        assert!(head(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(70_000)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall(bytes: Vec<u8>, step in 1usize..50) {
            let _ = head(&bytes);
            let mut framing = Framing::Chunked { at: Chunk::Size { size: 0, digits: false }, aside: 0 };
            let mut data = Vec::new();
            for part in bytes.chunks(step) {
                if framing.take(part, &mut data).is_err() {
                    break;
                }
            }
            prop_assert!(data.len() <= bytes.len());
        }

        #[test]
        fn chunks_add_up_however_they_come(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 0..20), step in 1usize..200) {
            let mut wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (head, body, taken) = read(&wire, step).unwrap();
            prop_assert!(head.framing.is_over());
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(taken, wire.len());
        }
    }
}
