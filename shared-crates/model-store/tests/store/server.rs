//! A web server that answers every request with what the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Answers connections one after the other until the test ends.
pub struct Server {
    pub address: SocketAddr,
    /// The head of every request, in order.
    pub requests: Receiver<String>,
}

impl Server {
    /// `answer` writes the whole response to the connection.
    pub fn start(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                if sender.send(head.join("\n")).is_err() {
                    return;
                }
                answer(&mut stream);
            }
        });
        Self { address, requests }
    }

    /// A server that always has `content`.
    pub fn of(content: &'static [u8]) -> Self {
        Self::start(move |stream| respond(stream, 200, content.len(), content))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

pub fn respond(stream: &mut TcpStream, status: u16, length: usize, body: &[u8]) {
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").unwrap();
    // The client may be gone: some tests want that.
    let _ = stream.write_all(body);
}
