//! Connections to workers are kept, bounded and dropped as they should be.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const HEAD: Bytes = Bytes::from_static(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n");
const BODY: Bytes = Bytes::from_static(b"{}");
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A worker that answers with these, each time once it has heard a whole question, and then closes.
async fn worker(listener: &TcpListener, answers: &[&str]) {
    let (mut stream, _) = listener.accept().await.unwrap();
    for answer in answers {
        let mut heard = Vec::new();
        while !heard.ends_with(b"{}") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "closed by the one who asks");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// All of an answer, and how it ended.
async fn ask(links: &Links, address: &str) -> Result<(Vec<u8>, Option<io::Error>), LinkError> {
    let mut reply = links.ask(address, HEAD, &BODY).await?;
    let mut whole = Vec::new();
    loop {
        match reply.pieces.next().await {
            Some(Ok(piece)) => whole.extend_from_slice(&piece),
            Some(Err(error)) => return Ok((whole, Some(error))),
            None => return Ok((whole, None)),
        }
    }
}

fn idle(links: &Links) -> usize {
    links.idle().by_address.values().map(Vec::len).sum()
}

#[tokio::test]
async fn a_connection_serves_again_until_the_worker_closes_it() {
    let (listener, address) = listen().await;
    let links = Links::default();
    let answers = ["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", &format!("{CHUNKED}3\r\ndef\r\n0\r\n\r\n")];
    let asks = async {
        for body in ["abc", "def"] {
            let (whole, error) = ask(&links, &address).await.unwrap();
            assert_eq!((whole.as_slice(), error.is_none(), idle(&links)), (body.as_bytes(), true, 1));
        }
    };
    tokio::join!(worker(&listener, &answers), asks);
    // Closed by now: a new one is made, and no question is lost.
    let again = worker(&listener, &["HTTP/1.1 200 OK\r\n\r\nuntil closed"]);
    let until_seen = async {
        while links.idle().by_address.values().flatten().any(|(_, stream)| stream.try_read(&mut []).is_err()) {
            tokio::task::yield_now().await;
        }
        ask(&links, &address).await.unwrap()
    };
    let ((), (whole, error)) = tokio::join!(again, until_seen);
    assert_eq!((whole.as_slice(), error.is_none(), idle(&links)), (b"until closed".as_slice(), true, 0));
}

#[tokio::test]
async fn what_breaks_off_or_says_too_much_is_not_used_again() {
    let (listener, address) = listen().await;
    let links = Links::default();
    for (answer, body, ends_well) in [
        (format!("{CHUNKED}3\r\nabc\r\n"), "abc", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_owned(), "abc", false),
        (format!("{CHUNKED}3\r\nabc\r\nnonsense"), "abc", false),
        (format!("{CHUNKED}3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"), "abc", true),
    ] {
        let answers = [answer.as_str()];
        let ((), asked) = tokio::join!(worker(&listener, &answers), ask(&links, &address));
        let (whole, error) = asked.unwrap();
        assert_eq!((whole.as_slice(), error.is_none(), idle(&links)), (body.as_bytes(), ends_well, 0), "{answer}");
    }
    let ((), asked) = tokio::join!(worker(&listener, &[""]), ask(&links, &address));
    assert!(matches!(asked, Err(LinkError::Broken(_))));
    drop(listener);
    assert!(matches!(ask(&links, &address).await, Err(LinkError::NoConnection(_))));
}
