//! Clients and workers nobody wishes for, at the gateway of a whole chain whose engine is the mock: each is borne or told
//! what it did, and nobody else notices.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rbee_tests::home::Home;
use rbee_tests::mock::{MockChain, NAME};
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use rustix::process::{Resource, getrlimit};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);
/// A chain in which nobody hangs is down much sooner.
const DOWN_WITHIN: Duration = Duration::from_secs(20);

fn client(home: &Home) -> Client {
    Client::new(&home.queen_url(), NAME)
}

fn connect(chain: &MockChain) -> TcpStream {
    let stream = TcpStream::connect(chain.queen()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A streaming request of so many tokens; `pace` as the mock's.
fn request(tokens: usize, pace: &str) -> Vec<u8> {
    request_of(NAME, tokens, pace)
}

fn request_of(model: &str, tokens: usize, pace: &str) -> Vec<u8> {
    let body = json!({"model": model, "stream": true, "max_tokens": tokens, "user": pace, "messages": []}).to_string();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn rest_of(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Everybody else is served, and the end is in order and soon.
fn nobody_else_noticed(chain: MockChain, queen: u32) {
    let streamed = client(&chain.home).stream("x", 8).unwrap();
    assert!(streamed.is_complete(), "{streamed:?}");
    assert_eq!(chain.queen_pid(), queen);
    let begun = Instant::now();
    chain.down();
    assert!(begun.elapsed() < DOWN_WITHIN, "down took {:?}", begun.elapsed());
}

/// BAD-01
#[test]
fn clients_that_read_slowly_cost_no_memory_and_get_everything() {
    const SLOW: usize = 16;
    const TOKENS: usize = 15_000;
    let chain = MockChain::up("", "");
    let queen = chain.queen_pid();
    client(&chain.home).stream("warm", 8).unwrap();
    let before = resident_kib(queen);
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| connect(&chain)).collect();
    for stream in &mut slow {
        stream.write_all(&request(TOKENS, "")).unwrap();
        // One byte, of some three megabytes.
        stream.read_exact(&mut [0]).unwrap();
    }
    for _ in 0..20 {
        assert!(client(&chain.home).stream("x", 50).unwrap().is_complete());
    }
    let grown = resident_kib(queen).saturating_sub(before);
    assert!(grown < 24 * 1024, "{SLOW} clients that do not read cost {grown} KiB");
    for mut stream in slow {
        let rest = rest_of(&mut stream);
        assert!(rest.contains(&format!("w{} ", TOKENS - 1)) && rest.contains("data: [DONE]"), "{} bytes", rest.len());
    }
    nobody_else_noticed(chain, queen);
}

/// BAD-02
#[test]
fn half_a_body_and_then_silence_disturbs_nobody_and_holds_up_no_end() {
    let chain = MockChain::up("", "");
    let queen = chain.queen_pid();
    let whole = request(8, "");
    let halves: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = connect(&chain);
            // Some stop in the head, some in the body.
            let length = if number % 2 == 0 { 40 } else { whole.len() - 10 };
            stream.write_all(&whole[..length]).unwrap();
            stream
        })
        .collect();
    let (heads, bodies): (Vec<_>, Vec<_>) = halves.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
    assert!(client(&chain.home).stream("x", 8).unwrap().is_complete());
    // A head that is not complete is told from nothing by nobody.
    drop(heads);
    nobody_else_noticed(chain, queen);
    drop(bodies);
}

/// BAD-03
#[test]
fn ten_thousand_idle_connections_are_borne() {
    // Queen has as many files as we have, for connections and all else.
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(files.saturating_sub(600).min(10_000)).unwrap();
    let chain = MockChain::up("", "");
    let queen = chain.queen_pid();
    let before = resident_kib(queen);
    let idle: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(chain.queen()).unwrap()).collect();
    let streamed = client(&chain.home).stream("x", 8).unwrap();
    assert!(streamed.is_complete(), "{streamed:?}");
    let grown = resident_kib(queen).saturating_sub(before);
    assert!(grown / 40 < u64::try_from(count).unwrap(), "{count} idle connections cost {grown} KiB");
    drop(idle);
    nobody_else_noticed(chain, queen);
}

/// BAD-04
#[test]
fn a_client_may_go_away_at_any_stage() {
    let chain = MockChain::up("", "");
    let queen = chain.queen_pid();
    let whole = request(400, "50/s");
    for round in 0..3 {
        // In the head, in the body, at its last byte, before the answer, in the answer.
        for length in [1, 30, whole.len() - 20, whole.len() - 1, whole.len()] {
            let mut stream = connect(&chain);
            stream.write_all(&whole[..length]).unwrap();
            if round == 1 {
                // Half closed: the other side may still speak.
                let _ = stream.shutdown(Shutdown::Write);
            }
            if round == 2 && length == whole.len() {
                stream.read_exact(&mut [0; 300]).unwrap();
            }
            drop(stream);
        }
    }
    // What they left is cancelled at the worker too: nothing is in flight there.
    wait::until("nothing in flight", PATIENCE, || in_flight(&chain).eq(&0).then_some(()));
    nobody_else_noticed(chain, queen);
}

/// Of queen's metrics.
fn in_flight(chain: &MockChain) -> u64 {
    let mut stream = connect(chain);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").unwrap();
    let text = rest_of(&mut stream);
    let value = text.lines().find_map(|line| line.strip_prefix("rbee_queen_requests_in_flight "));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("not told: {text}"))
}

/// BAD-05
#[test]
fn a_worker_that_sends_garbage_ends_in_an_error_event() {
    // As our engine, whose lines queen reads; and as somebody else's, whose she does not.
    let mock = rbee_tests::home::binary("mock-worker").display().to_string();
    let foreign = format!(
        "env = {{ MOCK_MANNER = \"garbage\" }}\n\n[model.foreign]\nsource = \"file:{mock}\"\n\n[worker.foreign]\nmodel = \"foreign\"\n\
         command = [\"{mock}\", \"--listen\", \"127.0.0.1:{{port}}\", \"--model-name\", \"foreign\"]\n\
         env = {{ MOCK_MANNER = \"garbage\" }}\nready = \"tcp\"\n"
    );
    let chain = MockChain::up("", &foreign);
    let queen = chain.queen_pid();
    for model in [NAME, "foreign"] {
        let mut stream = connect(&chain);
        stream.write_all(&request_of(model, 8, "")).unwrap();
        let said = rest_of(&mut stream);
        assert!(said.contains("\"error\"") && !said.contains("[DONE]"), "{model}: {said}");
    }
    assert!(processes::is_alive(queen));
    assert_eq!(chain.queen_pid(), queen);
    chain.down();
}
