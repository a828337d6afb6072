//! How it shall misbehave.

use std::path::PathBuf;
use std::time::Duration;

/// Each is an option of the same name, with `-` for `_`.
#[derive(Debug, Default)]
pub struct Options {
    /// SIGTERM and SIGINT change nothing.
    pub ignore_term: bool,
    /// Ends by itself after so long.
    pub exit_after: Option<Duration>,
    /// With SIGABRT instead of an exit code.
    pub abort: bool,
    /// Its exit code.
    pub code: u8,
    /// How long it takes from SIGTERM to its end.
    pub linger: Option<Duration>,
    /// Speaks the notify protocol.
    pub notify: bool,
    /// Never says that it is ready.
    pub never_ready: bool,
    /// Says so after this time.
    pub ready_after: Duration,
    /// Says so once this file exists.
    pub ready_file: Option<PathBuf>,
    /// Starts a child in its own session, which ignores SIGTERM.
    pub fork_child: bool,
    /// Starts a child that makes a session of its own.
    pub setsid_child: bool,
    /// Starts a child in a session of its own whose parent ends at once.
    pub double_fork_child: bool,
    /// Children begin with an empty environment.
    pub clear_env: bool,
    /// Starts a chain of processes of which each begins the next and ends.
    pub run_away: bool,
    /// Is a link of that chain.
    pub flee: bool,
    /// Starts a child in a session of its own that listens on this loopback port and ignores SIGTERM.
    pub hold_port: Option<u16>,
    /// Forks a daemon with its other options, writes that one's pid into this file and ends.
    pub daemonize: Option<PathBuf>,
    /// The same, but writes this pid instead.
    pub lie_pid: Option<u32>,
    /// The same, but writes nothing.
    pub lie_nothing: bool,
    /// Closes every descriptor it has, its output too.
    pub close_fds: bool,
    /// Takes so much memory and touches all of it, in MiB.
    pub leak_mib: usize,
    /// Says by notify that its child (`--fork-child`, `--setsid-child`) is the main process now, or this pid.
    pub main_pid: Option<String>,
    /// Makes a session of its own itself.
    pub new_session: bool,
    /// Prints so many lines at once.
    pub print_lines: u64,
    /// Prints a numbered line again and again.
    pub print_every: Option<Duration>,
    /// So many of them at a time; 0 is one.
    pub burst: u64,
    /// Prints as much as it can.
    pub flood: bool,
    /// Prints these lines.
    pub say: Vec<String>,
    /// Prints these lines on stderr.
    pub complain: Vec<String>,
    /// Prints this without a newline.
    pub say_unfinished: Option<String>,
    /// Prints these variables.
    pub print_env: Vec<String>,
    /// Prints its working directory.
    pub print_cwd: bool,
    /// Prints its open file descriptors.
    pub print_fds: bool,
    /// Sends every line of this FIFO to the notify socket.
    pub relay: Option<PathBuf>,
    /// Says this by notify, `;` being a line's end, and ends.
    pub last_words: Option<String>,
    /// Sends its watchdog's sign of life this often.
    pub ping_every: Option<Duration>,
    /// Computes for ever.
    pub burn: bool,
    /// Answers nobody while this file exists.
    pub deaf_file: Option<PathBuf>,
    /// Adds its pid to this file.
    pub count_file: Option<PathBuf>,
    /// Answers HTTP on this loopback port.
    pub port: Option<u16>,
    /// Answers HTTP on the socket it inherited as fd 3.
    pub inherited: bool,
    /// Answers 503 while this file exists.
    pub unhealthy_file: Option<PathBuf>,
}

impl Options {
    /// Reads the command line; a problem is a sentence.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args;
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--ignore-term" => options.ignore_term = true,
                "--exit-after-ms" => options.exit_after = Some(crate::ms(&value()?)?),
                "--abort" => options.abort = true,
                "--code" => options.code = value()?.parse().map_err(|_| "--code is 0 to 255".to_owned())?,
                "--linger-ms" => options.linger = Some(crate::ms(&value()?)?),
                "--notify" => options.notify = true,
                "--never-ready" => options.never_ready = true,
                "--ready-after-ms" => options.ready_after = crate::ms(&value()?)?,
                "--ready-file" => options.ready_file = Some(value()?.into()),
                "--fork-child" => options.fork_child = true,
                "--setsid-child" => options.setsid_child = true,
                "--double-fork-child" => options.double_fork_child = true,
                "--clear-env" => options.clear_env = true,
                "--run-away" => options.run_away = true,
                "--flee" => options.flee = true,
                "--hold-port" => options.hold_port = Some(value()?.parse().map_err(|_| "--hold-port PORT".to_owned())?),
                "--daemonize" => options.daemonize = Some(value()?.into()),
                "--lie-pid" => options.lie_pid = Some(value()?.parse().map_err(|_| "--lie-pid PID".to_owned())?),
                "--lie-nothing" => options.lie_nothing = true,
                "--close-fds" => options.close_fds = true,
                "--leak-mib" => options.leak_mib = value()?.parse().map_err(|_| "--leak-mib MIB".to_owned())?,
                "--main-pid" => options.main_pid = Some(value()?),
                "--new-session" => options.new_session = true,
                "--print-lines" => options.print_lines = value()?.parse().map_err(|_| "--print-lines N".to_owned())?,
                "--print-every-ms" => options.print_every = Some(crate::ms(&value()?)?),
                "--burst" => options.burst = value()?.parse().map_err(|_| "--burst LINES".to_owned())?,
                "--flood" => options.flood = true,
                "--say" => options.say.push(value()?),
                "--complain" => options.complain.push(value()?),
                "--say-unfinished" => options.say_unfinished = Some(value()?),
                "--print-env" => options.print_env.push(value()?),
                "--print-cwd" => options.print_cwd = true,
                "--print-fds" => options.print_fds = true,
                "--relay" => options.relay = Some(value()?.into()),
                "--last-words" => options.last_words = Some(value()?),
                "--ping-every-ms" => options.ping_every = Some(crate::ms(&value()?)?),
                "--burn" => options.burn = true,
                "--deaf-file" => options.deaf_file = Some(value()?.into()),
                "--count-file" => options.count_file = Some(value()?.into()),
                "--port" => options.port = Some(value()?.parse().map_err(|_| "--port PORT".to_owned())?),
                "--inherited" => options.inherited = true,
                "--unhealthy-file" => options.unhealthy_file = Some(value()?.into()),
                _ => return Err(format!("unknown option {option}")),
            }
        }
        Ok(options)
    }
}
