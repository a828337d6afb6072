//! `NAME.state`: who a running daemon is, so that whoever comes next can take it over or know that it is gone.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervision::Stage;

use crate::after_exit::AfterExit;
use crate::files;
use crate::process::{Piece, ProcessIdentity, Record, ScanNumber, StopSignal, Tree};

/// Raised when a field changes its meaning; a reader refuses what is newer than itself.
const VERSION: u32 = 1;

/// For this user alone: it tells how things are started.
const MODE: u32 = 0o600;

/// What stands before the two numbers only the new process knows. Within a string the quotes would be escaped.
const PID_KEY: &[u8] = b"\"pid\": ";
const STAGE_KEY: &[u8] = b"\"stage\": ";
/// `"starting"`
const STAGE_LEN_MAX: usize = 10;
const TICKS_KEY: &[u8] = b"\"start_time_ticks\": ";

/// One run of one daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) version: u32,
    /// The unit's name.
    pub(crate) unit: String,
    /// Its main process.
    pub(crate) process: ProcessIdentity,
    /// The run's number.
    pub(crate) incarnation: u64,
    /// Restarts counted when it began.
    pub(crate) restarts: u32,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// Of the launch it runs with.
    pub(crate) launch_fingerprint: u64,
    /// The mark its processes carry in their environment.
    pub(crate) run_id: String,
    /// The cgroup its processes are in, where they have one.
    #[serde(default)]
    pub(crate) cgroup: Option<PathBuf>,
    /// The started command names its daemon in `pid_file`, and ends.
    #[serde(default)]
    pub(crate) forking: bool,
    /// Its limits, and how each is in force; for people.
    #[serde(default)]
    pub(crate) limits_in_force: Vec<String>,
    /// When it was started.
    pub(crate) started_at: jiff::Timestamp,
    /// Its listening socket's address.
    pub(crate) listen: Option<SocketAddr>,
    /// Its PID file.
    pub(crate) pid_file: PathBuf,
    /// Where its output goes.
    pub(crate) log_file: Option<PathBuf>,
    /// What is run after its end, also by the next supervisor.
    #[serde(default)]
    pub(crate) after_exit: Option<AfterExit>,
    /// The process that does its work, where that is none of its own.
    #[serde(default)]
    pub(crate) payload: Option<ProcessIdentity>,
    /// How it wants to be stopped, for one that nobody declares any more.
    pub(crate) stop_signal: StopSignal,
    /// How long it may take to stop, for the same.
    pub(crate) stop_timeout_ms: u64,
    /// It wrote this down itself, and removes it when it ends by intention: nobody of ours started it.
    #[serde(default)]
    pub(crate) self_kept: bool,
}

/// What a state file says.
#[derive(Debug)]
pub(crate) enum StateFile {
    Missing,
    State(Box<RunState>),
    /// No state of ours; what is wrong with it.
    Garbage(String),
    Unreadable(io::Error),
}

impl StateFile {
    pub(crate) fn read(path: &Path) -> Self {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Missing,
            Err(error) => return Self::Unreadable(error),
            Ok(text) => text,
        };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_slice::<Versioned>(&text) {
            Ok(Versioned { version }) if version > VERSION => {
                Self::Garbage(format!("written by a newer program (version {version}, this one knows {VERSION})"))
            }
            Ok(_) => match serde_json::from_slice(&text) {
                Ok(state) => Self::State(state),
                Err(error) => Self::Garbage(error.to_string()),
            },
            Err(error) => Self::Garbage(error.to_string()),
        }
    }
}

impl RunState {
    pub(crate) const VERSION: u32 = VERSION;

    /// Writes down how far the run has come, unless that stands there already.
    pub(crate) fn advance(&mut self, stage: Stage, path: &Path) -> io::Result<()> {
        if self.stage == stage {
            return Ok(());
        }
        self.stage = stage;
        let text = self.text()?;
        if files::overwrite(path, &text)? { Ok(()) } else { files::replace(path, &text, MODE) }
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &self.text()?, MODE)
    }

    /// As JSON, as long in every stage: what changes most often changes a few bytes in place.
    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        let stage_at = find(&text, STAGE_KEY).ok_or(io::ErrorKind::InvalidData)? + STAGE_KEY.len();
        let rest = &text[stage_at..];
        let len = rest.iter().position(|byte| *byte == b',').ok_or(io::ErrorKind::InvalidData)?;
        let spaces = std::iter::repeat_n(b' ', STAGE_LEN_MAX.saturating_sub(len));
        text.splice(stage_at + len..stage_at + len, spaces);
        Ok(text)
    }

    /// What its processes are known by. For its burial: to be asked for once its main process has ended.
    pub(crate) fn tree(&self) -> Tree {
        Tree { run_id: self.run_id.clone(), cgroup: self.cgroup.clone(), seen: ScanNumber::next() }
    }

    /// The file of a run whose process does not exist yet: it fills in who it is by itself.
    pub(crate) fn record<'a>(&self, path: &'a Path) -> io::Result<Record<'a>> {
        let mut before = self.text()?;
        let ticks_at = find(&before, TICKS_KEY).ok_or(io::ErrorKind::InvalidData)? + TICKS_KEY.len();
        let after = before.split_off(ticks_at);
        let pid_at = find(&before, PID_KEY).ok_or(io::ErrorKind::InvalidData)? + PID_KEY.len();
        let between = before.split_off(pid_at);
        let behind_number = |text: Vec<u8>| {
            let at = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
            Piece::Text(text[at..].to_vec())
        };
        let pieces =
            vec![Piece::Text(before), Piece::Pid, behind_number(between), Piece::StartTimeTicks, behind_number(after)];
        Ok(Record { path, mode: MODE, pieces })
    }
}

fn find(text: &[u8], key: &[u8]) -> Option<usize> {
    text.windows(key.len()).position(|window| window == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_file_with_two_numbers_left_open() {
        // A name as tricky as the format: its quotes are escaped.
        let state = RunState { unit: r#"x"pid": 1,"start_time_ticks": 2"#.to_owned(), ..state() };
        let record = state.record(Path::new("a.state")).unwrap();
        let text: Vec<u8> = record.pieces.iter().fold(Vec::new(), |text, piece| {
            let bytes: &[u8] = match piece {
                Piece::Text(bytes) => bytes,
                Piece::Pid => b"4711",
                Piece::StartTimeTicks => b"815",
            };
            [&text, bytes].concat()
        });
        let read: RunState = serde_json::from_slice(&text).unwrap();
        let process = ProcessIdentity { pid: 4711, start_time_ticks: 815, ..state.process.clone() };
        assert_eq!(read, RunState { process, ..state });
    }

    fn state() -> RunState {
        RunState {
            version: VERSION,
            unit: "a.0".to_owned(),
            process: ProcessIdentity { pid: 7, start_time_ticks: 9, boot_id: "b".to_owned() },
            incarnation: 3,
            restarts: 1,
            stage: Stage::Ready,
            launch_fingerprint: u64::MAX,
            run_id: "a.0:x".to_owned(),
            cgroup: Some("/sys/fs/cgroup/x".into()),
            forking: true,
            limits_in_force: vec!["nofile: rlimit".to_owned()],
            started_at: jiff::Timestamp::UNIX_EPOCH,
            listen: Some(([127, 0, 0, 1], 7855).into()),
            pid_file: "a.0.pid".into(),
            log_file: None,
            after_exit: Some(AfterExit { command: vec!["/bin/x".to_owned()], timeout_ms: 5 }),
            payload: None,
            stop_signal: StopSignal::Int,
            stop_timeout_ms: 10_000,
            self_kept: false,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.0.state");
        assert!(matches!(StateFile::read(&path), StateFile::Missing));
        state().write(&path).unwrap();
        assert!(matches!(StateFile::read(&path), StateFile::State(read) if *read == state()));
        let len = fs::metadata(&path).unwrap().len();
        for stage in [Stage::Starting, Stage::Ending, Stage::Ready] {
            let mut advanced = state();
            advanced.stage = if stage == Stage::Ready { Stage::Ending } else { Stage::Ready };
            advanced.advance(stage, &path).unwrap();
            assert!(matches!(StateFile::read(&path), StateFile::State(read) if *read == RunState { stage, ..state() }));
            assert_eq!(fs::metadata(&path).unwrap().len(), len);
        }
    }

    #[test]
    fn a_newer_or_broken_file_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.state");
        fs::write(&path, r#"{"version": 99}"#).unwrap();
        assert!(matches!(StateFile::read(&path), StateFile::Garbage(why) if why.contains("newer program")));
        for garbage in ["", "{", "[]", r#"{"version": 1}"#] {
            fs::write(&path, garbage).unwrap();
            assert!(matches!(StateFile::read(&path), StateFile::Garbage(_)), "{garbage:?}");
        }
        assert!(matches!(StateFile::read(dir.path()), StateFile::Unreadable(_)));
    }
}
