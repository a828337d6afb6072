//! Putting a probe's question: one connection, one answer, one time limit.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::launch::Launch;
use crate::probe::Probe;
use crate::process::{ExitWatch, Output};
use crate::question::Question;
use supervision::ExitHow;

/// What a probe needs to know about its unit.
#[derive(Debug, Clone)]
pub(crate) struct ProbeContext {
    /// The unit's own listening address.
    pub(crate) listen: Option<SocketAddr>,
    /// Environment and working directory for `exec` probes.
    pub(crate) launch: Launch,
    /// Most of an HTTP answer that is read.
    pub(crate) body_bytes_max: usize,
}

/// The answer was no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct No {
    /// Why, for people.
    pub(crate) reason: String,
    /// There was no answer at all in time.
    pub(crate) is_silence: bool,
    /// The JSON that came along, if any.
    pub(crate) body: Option<serde_json::Value>,
}

impl From<String> for No {
    fn from(reason: String) -> Self {
        Self { reason, is_silence: false, body: None }
    }
}

impl Probe {
    /// Puts the question. `Ok`: yes, with the JSON that came along, if any. `Err`: no, and why.
    pub(crate) async fn ask(&self, context: &ProbeContext, timeout: Duration) -> Result<Option<serde_json::Value>, No> {
        let asked = async {
            match self {
                Self::Tcp { address } => {
                    let address = own(*address, context)?;
                    connect(address).await.map(|_| None).map_err(No::from)
                }
                Self::Http { address, path } => {
                    let address = own(*address, context)?;
                    http(connect(address).await?, &address.to_string(), path, context.body_bytes_max).await
                }
                Self::HttpUnix { socket, path } => {
                    let stream = connect_unix(socket).await?;
                    http(stream, &socket.display().to_string(), path, context.body_bytes_max).await
                }
                Self::Unix { path } => connect_unix(path).await.map(|_| None).map_err(No::from),
                Self::Exec { command } => exec(command, &context.launch).await.map(|()| None).map_err(No::from),
            }
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                let reason = format!("no answer within {} s", timeout.as_secs_f64());
                Err(No { reason, is_silence: true, body: None })
            }
        }
    }

    /// Asks again and again, with growing pauses, until the answer is yes.
    pub(crate) async fn until_yes(&self, context: &ProbeContext, timeout: Duration, pauses: Pauses) {
        let mut pause = pauses.min;
        while let Err(no) = self.ask(context, timeout).await {
            tracing::trace!(why = no.reason, "not ready yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(pauses.max);
        }
    }
}

/// Pauses between questions whose answer was no.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

fn own(address: Option<SocketAddr>, context: &ProbeContext) -> Result<SocketAddr, String> {
    let address = address.or(context.listen);
    address.ok_or_else(|| "the probe names no address and the unit has no listening socket".to_owned())
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))
}

async fn connect_unix(socket: &Path) -> Result<UnixStream, String> {
    UnixStream::connect(socket).await.map_err(|error| format!("cannot connect to {}: {error}", socket.display()))
}

/// HTTP/1.0, so that the answer is neither chunked nor kept open. `address` is named in errors. A daemon that answers
/// `{"healthy": false}` has said it, whatever its status says.
async fn http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
    path: &str,
    body_bytes_max: usize,
) -> Result<Option<serde_json::Value>, No> {
    const HEAD_BYTES_MAX: usize = 16 * 1024;
    let broken = |error: io::Error| format!("{address}{path}: {error}");
    // A path of a socket is no name of a host.
    let host = if address.starts_with('/') { "localhost" } else { address };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    let limit = u64::try_from(HEAD_BYTES_MAX + body_bytes_max).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut answer).await.map_err(broken)?;
    let status = status_of(&answer).ok_or_else(|| format!("{address}{path}: not an HTTP answer"))?;
    let body: Option<serde_json::Value> = body_of(&answer).and_then(|body| serde_json::from_slice(body).ok());
    let says = |says: String| No { body: body.clone(), ..No::from(format!("{address}{path}: {says}")) };
    if !(200..300).contains(&status) {
        return Err(says(format!("status {status}")));
    }
    match body.as_ref().and_then(|body| body.get("healthy")?.as_bool()) {
        Some(false) => Err(says("it says that it is not healthy".to_owned())),
        _ => Ok(body),
    }
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/"))?;
    words.next()?.parse().ok()
}

fn body_of(answer: &[u8]) -> Option<&[u8]> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let at = answer.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    Some(&answer[at + END_OF_HEAD.len()..])
}

async fn exec(command: &[String], launch: &Launch) -> Result<(), String> {
    let (program, args) = command.split_first().ok_or("the probe has no command")?;
    let launch = Launch { program: program.into(), args: args.to_vec(), ..launch.clone() };
    let asked = tokio::task::spawn_blocking(move || {
        let null = std::fs::File::options().write(true).open("/dev/null").map_err(|error| error.to_string())?;
        Question::ask(&launch, "probe", Output::Fd(null.as_fd()), Output::Fd(null.as_fd()))
    });
    let process = asked.await.map_err(|error| error.to_string())??;
    let watch = ExitWatch::new(&process.0).map_err(|error| error.to_string())?;
    watch.ended().await.map_err(|error| error.to_string())?;
    match process.0.exit_how() {
        ExitHow::Code(0) => Ok(()),
        how => Err(format!("{program} ended with {how}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn context() -> ProbeContext {
        ProbeContext { listen: None, launch: Launch::new("", [""; 0]), body_bytes_max: 1024 }
    }

    /// Answers one connection with `answer`; returns its address.
    async fn answering(answer: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    async fn ask_http(answer: &'static str) -> Result<Option<serde_json::Value>, String> {
        let address = Some(answering(answer).await);
        Probe::Http { address, path: "/health".to_owned() }.ask(&context(), SOON).await.map_err(|no| no.reason)
    }

    /// PROC-32
    #[tokio::test]
    async fn an_http_answer_is_judged_by_its_status_and_its_json_is_kept() {
        let ok = ask_http("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"healthy\": true}").await;
        assert_eq!(ok, Ok(Some(serde_json::json!({"healthy": true}))));
        assert_eq!(ask_http("HTTP/1.0 204 No Content\r\n\r\n").await, Ok(None));
        let ill = ask_http("HTTP/1.0 200 OK\r\n\r\n{\"healthy\": false, \"error_count\": 7}").await.unwrap_err();
        assert!(ill.ends_with("/health: it says that it is not healthy"), "{ill}");
        assert!(
            ask_http("HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap_err().ends_with("/health: status 503")
        );
        assert!(ask_http("SSH-2.0-x\r\n").await.unwrap_err().ends_with("not an HTTP answer"));
    }

    /// PROC-31
    #[tokio::test]
    async fn an_http_answer_over_a_unix_socket_is_judged_alike() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let asked = tokio::spawn({
            let probe = Probe::HttpUnix { socket: socket.clone(), path: "/health".to_owned() };
            async move { (probe.ask(&context(), SOON).await, probe.ask(&context(), SOON).await) }
        });
        for answer in ["HTTP/1.0 200 OK\r\n\r\n{\"healthy\": true}", "HTTP/1.0 500 No\r\n\r\n{\"healthy\": false}"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /health HTTP/1.0\r\nHost: localhost\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        let (good, bad) = asked.await.unwrap();
        assert_eq!(good, Ok(Some(serde_json::json!({"healthy": true}))));
        let bad = bad.unwrap_err();
        assert_eq!(bad.reason, format!("{}/health: status 500", socket.display()));
        assert_eq!(bad.body, Some(serde_json::json!({"healthy": false})));
        // It listens, and nobody accepts: a connection alone says nothing of a daemon that hangs.
        let connects = Probe::Unix { path: socket.clone() }.ask(&context(), SOON).await;
        let answers = Probe::HttpUnix { socket, path: "/health".to_owned() };
        let silent = answers.ask(&context(), Duration::from_millis(1)).await.unwrap_err();
        assert!(connects.is_ok() && silent.is_silence, "{silent:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_no_and_says_where() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tcp = Probe::Tcp { address: Some(address) };
        assert_eq!(tcp.ask(&context(), SOON).await, Ok(None));
        // Bound but not listening: it refuses, and nobody else can get the port meanwhile.
        let deaf = tokio::net::TcpSocket::new_v4().unwrap();
        deaf.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = deaf.local_addr().unwrap();
        let why = Probe::Tcp { address: Some(address) }.ask(&context(), SOON).await.unwrap_err().reason;
        assert!(why.contains(&address.to_string()), "{why}");
        let unix = Probe::Unix { path: "/nowhere.sock".into() };
        assert!(unix.ask(&context(), SOON).await.unwrap_err().reason.contains("/nowhere.sock"));
    }

    #[tokio::test]
    async fn a_command_answers_by_its_exit_code_within_the_time() {
        let exec = |command: &[&str]| Probe::Exec { command: command.iter().map(|word| (*word).to_owned()).collect() };
        assert_eq!(exec(&["/bin/true"]).ask(&context(), SOON).await, Ok(None));
        assert_eq!(
            exec(&["/bin/false"]).ask(&context(), SOON).await.unwrap_err().reason,
            "/bin/false ended with exit code 1"
        );
        assert!(exec(&["/bin/none"]).ask(&context(), SOON).await.unwrap_err().reason.contains("does not exist"));
        let slow = exec(&["/bin/sleep", "1000"]).ask(&context(), Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((slow.reason.as_str(), slow.is_silence), ("no answer within 0.001 s", true));
    }
}
