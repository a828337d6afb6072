//! A program in a terminal of its own: keys in, and what the terminal shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use rustix::process::Signal;

use crate::{processes, wait};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pseudo-terminal with a program in it. Dropping it kills the program.
pub struct Terminal {
    child: Child,
    keys: File,
    ours: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts the program in a terminal of that size.
    pub fn run(mut program: Command, columns: u16, lines: u16) -> Self {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let end = || slave.try_clone().unwrap();
        program.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        #[expect(clippy::disallowed_methods, reason = "a program that is watched by a test, not supervised")]
        let child = program.spawn().unwrap();
        let shown = Arc::new(Mutex::new(vt100::Parser::new(sized(lines), sized(columns), 0)));
        let keys = File::from(master);
        let reader = std::thread::spawn({
            let (mut written, shown) = (keys.try_clone().unwrap(), Arc::clone(&shown));
            move || {
                let mut piece = [0; 4096];
                // Ends with an error once nobody holds the other side.
                while let Ok(count @ 1..) = written.read(&mut piece) {
                    lock(&shown).process(&piece[..count]);
                }
            }
        });
        Self { child, keys, ours: slave, before, shown, reader: Some(reader) }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        lock(&self.shown).screen_mut().set_size(sized(lines), sized(columns));
        let size = rustix::termios::Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.ours, size).unwrap();
        // It is told by the terminal only to those whose controlling terminal it is.
        self.signal(Signal::WINCH);
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(processes::send(self.child.id(), signal), "the program has ended");
    }

    /// What the terminal shows.
    pub fn text(&self) -> String {
        lock(&self.shown).screen().contents()
    }

    /// Waits until the terminal shows all that.
    ///
    /// # Panics
    /// When it does not, with what it shows.
    pub fn wait_for(&self, texts: &[&str]) {
        let seen = || texts.iter().all(|text| self.text().contains(text));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until("the terminal", PATIENCE, || seen().then_some(()));
        }));
        assert!(result.is_ok(), "{texts:?} not in:\n{}", self.text());
    }

    /// Whether a program has taken the terminal: another screen, keys one by one.
    pub fn is_taken(&self) -> bool {
        lock(&self.shown).screen().alternate_screen() && tcgetattr(&self.ours).unwrap() != self.before
    }

    /// Whether anything it shows has a colour.
    pub fn has_colors(&self) -> bool {
        let shown = lock(&self.shown);
        let (lines, columns) = shown.screen().size();
        let mut cells = (0..lines.get()).flat_map(|line| (0..columns.get()).map(move |column| (line, column)));
        cells.any(|(line, column)| {
            let plain = vt100::Color::Default;
            shown.screen().cell(line, column).is_some_and(|cell| cell.fgcolor() != plain || cell.bgcolor() != plain)
        })
    }

    /// Waits until the program has ended; its exit, and what the terminal shows then.
    ///
    /// # Panics
    /// When it does not end, or has not given the terminal back as it was.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = wait::until("the program's end", PATIENCE, || self.child.try_wait().unwrap());
        assert_eq!(tcgetattr(&self.ours).unwrap(), self.before, "the terminal's manners are not as before");
        // What it wrote last is read once the kernel has handed it over: the end comes after it.
        nix::unistd::write(&self.ours, b"\r\n*the end*\r\n").unwrap();
        self.wait_for(&["*the end*"]);
        let screen = lock(&self.shown).screen().clone();
        assert!(!screen.alternate_screen(), "the other screen is still shown");
        assert!(!screen.hide_cursor(), "the cursor is still hidden");
        assert!(!screen.bracketed_paste(), "pastes are still marked");
        (status, screen.contents())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended long since.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader ends when the last one who could write is gone: us.
        if let Ok(null) = File::open("/dev/null") {
            self.ours = null.into();
            if let Some(reader) = self.reader.take() {
                let _ = reader.join();
            }
        }
    }
}

fn sized(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

fn lock(shown: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
