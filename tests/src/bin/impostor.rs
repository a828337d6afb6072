//! A binary that shall become queen and is none: how it fails is its file's name.
//!
//! ```text
//!   mute       says nothing in its self-check          dies      ends at once when it is started
//!   stranger   says that it is another program         refuses   says that it cannot, when all is its own
//!   failing    passes no self-check, and says why      dies-late ends when all is its own
//!                                                      hangs     never gets ready
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of tests")]

use std::process::ExitCode;

use rbee_runtime::listen;
use rbee_runtime::self_check::SelfCheck;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

fn main() -> ExitCode {
    let name = std::env::current_exe().ok().and_then(|path| path.file_name().map(|name| name.to_owned()));
    let manner = name.unwrap_or_default().to_string_lossy().into_owned();
    if std::env::args().nth(1).as_deref() == Some("self-check") {
        return self_check(&manner);
    }
    if manner == "dies" {
        return ExitCode::FAILURE;
    }
    match tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(wait(&manner))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("impostor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn self_check(manner: &str) -> ExitCode {
    let program = if manner == "stranger" { "rbee-hive" } else { "queen-rbee" };
    match manner {
        "mute" => return ExitCode::SUCCESS,
        "failing" => {
            eprintln!("error: it does not feel well");
            return ExitCode::FAILURE;
        }
        _ => {}
    }
    match serde_json::to_string(&SelfCheck::of(program, "9.9.9")) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

async fn wait(manner: &str) -> std::io::Result<()> {
    let (_socket, line) = listen::from_predecessor().map_err(std::io::Error::other)?;
    let (read, mut write) = line.into_split();
    write.write_all(b"\"hello\"\n").await?;
    let mut given = String::new();
    BufReader::new(read).read_line(&mut given).await?;
    match manner {
        "refuses" => write.write_all(b"{\"refused\":\"it does not like it here\"}\n").await?,
        "hangs" => {}
        _ => return Ok(()),
    }
    std::future::pending().await
}
