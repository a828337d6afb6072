//! What is run: a command without a shell, and what makes one launch differ from another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::process::{Command, Output, RUN_ID_VARIABLE};

/// Files a daemon makes are this user's to write and its group's to read.
const UMASK: u32 = 0o027;

/// Variables that speak of our own supervisor and must not reach what we start.
const NOT_INHERITED: [&str; 8] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    HANDOVER_VARIABLE,
    RUN_ID_VARIABLE,
];

/// What a program is told by the one it takes over from.
pub const HANDOVER_VARIABLE: &str = "RBEE_HANDOVER";

/// A command to run, without a shell.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The program. With a slash it is a path (a relative one counts from `working_dir`); without one it is looked up on `PATH`.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// Variables set for it, over what it inherits.
    pub env: BTreeMap<String, String>,
    /// Whether it starts from the supervisor's own environment (true in most cases) or from an empty one.
    pub inherit_env: bool,
    /// Variables of the supervisor's own that are not for it.
    pub not_inherited: &'static [&'static str],
    /// Its working directory; the supervisor's own when absent.
    pub working_dir: Option<PathBuf>,
}

impl fmt::Debug for Launch {
    /// Without the values of the environment, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("inherit_env", &self.inherit_env)
            .field("working_dir", &self.working_dir)
            .finish()
    }
}

/// What one run gets besides its command.
#[derive(Debug)]
pub(crate) struct RunSetup<'a> {
    pub(crate) stdout: Output<'a>,
    pub(crate) stderr: Output<'a>,
    pub(crate) sockets: Vec<BorrowedFd<'a>>,
    pub(crate) notify_socket: Option<&'a Path>,
    pub(crate) run_id: &'a str,
    /// Its standard input; `/dev/null` when absent.
    pub(crate) stdin: Option<BorrowedFd<'a>>,
}

impl Launch {
    /// A command that inherits environment and working directory.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            inherit_env: true,
            ..Self::default()
        }
    }

    /// The whole command of one run.
    pub(crate) fn command<'a>(&self, setup: RunSetup<'a>) -> Command<'a> {
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        if self.inherit_env {
            env.extend(
                std::env::vars_os()
                    .filter(|(name, _)| NOT_INHERITED.iter().chain(self.not_inherited).all(|not| name != not)),
            );
        }
        env.extend(self.env.iter().map(|(name, value)| (name.into(), value.into())));
        if let Some(socket) = setup.notify_socket {
            env.insert("NOTIFY_SOCKET".into(), socket.into());
        }
        env.insert(RUN_ID_VARIABLE.into(), setup.run_id.into());
        Command {
            program: self.program.clone(),
            args: self.args.clone(),
            env: env.into_iter().collect(),
            working_dir: self.working_dir.clone(),
            umask: UMASK,
            stdin: setup.stdin,
            stdout: setup.stdout,
            stderr: setup.stderr,
            sockets: setup.sockets,
            run_id: setup.run_id.to_owned(),
        }
    }

    /// A number that changes with everything a running process cannot change: when it differs, the process is another one.
    pub(crate) fn fingerprint(&self, listen: Option<SocketAddr>, notifies: bool) -> u64 {
        let mut hash = Fnv::default();
        hash.text(self.program.as_os_str().as_encoded_bytes());
        hash.number(self.args.len());
        self.args.iter().for_each(|arg| hash.text(arg.as_bytes()));
        hash.number(self.env.len());
        for (name, value) in &self.env {
            hash.text(name.as_bytes());
            hash.text(value.as_bytes());
        }
        hash.number(usize::from(self.inherit_env));
        hash.text(self.working_dir.as_ref().map_or(&[], |dir| dir.as_os_str().as_encoded_bytes()));
        hash.text(listen.map(|address| address.to_string()).unwrap_or_default().as_bytes());
        hash.number(usize::from(notifies));
        hash.0
    }
}

/// A number for these bytes, the same in every build.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.bytes(bytes);
    hash.0
}

/// FNV-1a: the same in every build, unlike the standard hasher, because a newer supervisor compares it with an older one's.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.bytes(bytes);
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_sees_every_part_and_its_borders() {
        let plain = Launch::new("/bin/x", ["ab", "c"]);
        let of = |launch: &Launch| launch.fingerprint(None, false);
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let others = [
            Launch::new("/bin/y", ["ab", "c"]),
            Launch::new("/bin/x", ["a", "bc"]),
            Launch::new("/bin/x", ["ab", "c", ""]),
            Launch { env: env(&[("A", "1")]), ..plain.clone() },
            Launch { inherit_env: false, ..plain.clone() },
            Launch { working_dir: Some("/".into()), ..plain.clone() },
        ];
        assert_eq!(of(&plain), of(&plain.clone()));
        for other in &others {
            assert_ne!(of(&plain), of(other), "{other:?}");
        }
        assert_ne!(of(&plain), plain.fingerprint(Some(([127, 0, 0, 1], 1).into()), false));
        assert_ne!(of(&plain), plain.fingerprint(None, true));
    }

    #[test]
    fn secrets_are_not_printed() {
        let launch = Launch { env: [("TOKEN".to_owned(), "hush".to_owned())].into(), ..Launch::default() };
        let printed = format!("{launch:?}");
        assert!(printed.contains("TOKEN") && !printed.contains("hush"), "{printed}");
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_build() {
        assert_eq!(Launch::new("/bin/x", ["a"]).fingerprint(None, false), 18_205_510_648_077_931_088);
    }
}
