//! The whole terminal in the hands of a view, and given back as it was however the view ends.
//!
//! ```text
//!   open ─▶ raw mode, other screen ─▶ draw … ─┬─ dropped ──┐
//!                                             └─ a panic ──┴─▶ own screen, cooked mode, cursor
//! ```

use std::io::{self, BufWriter, IsTerminal, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// Whether the terminal is ours. There is one terminal a process, and a panic's hook can reach nothing else.
static OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal.
pub(crate) struct Screen(Terminal<CrosstermBackend<BufWriter<Stdout>>>);

impl Screen {
    /// Whether there is a terminal that can show a view and tell keys.
    pub(crate) fn is_there(term: Option<&str>) -> bool {
        io::stdout().is_terminal() && io::stdin().is_terminal() && term != Some("dumb")
    }

    /// Takes the terminal.
    ///
    /// # Errors
    /// What the terminal says.
    pub(crate) fn open() -> io::Result<Self> {
        HOOK.call_once(|| {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First the terminal: what the report says shall be seen.
                give_back();
                report(panic);
            }));
        });
        enable_raw_mode()?;
        OURS.store(true, Ordering::SeqCst);
        let opened = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout()))));
        if opened.is_err() {
            give_back();
        }
        opened.map(Self)
    }

    /// Shows a picture.
    ///
    /// # Errors
    /// When the terminal is gone, or was given back because of a panic.
    pub(crate) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if !OURS.load(Ordering::SeqCst) {
            return Err(io::Error::other("a part of the view broke; see above"));
        }
        self.0.draw(picture).map(drop)
    }

    /// Forgets what the terminal shows: the next picture is drawn whole.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }

    /// Its lines.
    pub(crate) fn lines(&self) -> u16 {
        self.0.size().map_or(24, |size| size.height)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, once.
fn give_back() {
    if OURS.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing back.
        let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::Command;

    use nix::pty::{OpenptyResult, Winsize, openpty};
    use nix::sys::termios::tcgetattr;
    use ratatui::text::Line;

    use super::Screen;

    #[test]
    #[ignore = "breaks by intention; the test below runs it in a terminal"]
    fn breaks() {
        let mut screen = Screen::open().unwrap();
        screen.draw(|frame| frame.render_widget(Line::raw("shown"), frame.area())).unwrap();
        panic!("it broke");
    }

    /// KEEP-17
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_reported() {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "ui::screen::tests::breaks", "--ignored", "--nocapture"]).env("RUST_BACKTRACE", "0");
        let end = || slave.try_clone().unwrap();
        program.stdin(end()).stdout(end()).stderr(end());
        #[expect(clippy::disallowed_methods, reason = "this program itself, for one test")]
        let mut child = program.spawn().unwrap();
        drop(program);
        let reader = std::thread::spawn(move || {
            let (mut text, mut piece, mut master) = (Vec::new(), [0; 1024], File::from(master));
            // Ends with an error once nobody holds the other side.
            while let Ok(count @ 1..) = master.read(&mut piece) {
                text.extend_from_slice(&piece[..count]);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        child.wait().unwrap();
        assert_eq!(tcgetattr(&slave).unwrap(), before);
        drop(slave);
        let text = reader.join().unwrap();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what:?} not in {text:?}"));
        assert!(at("\u{1b}[?1049h") < at("shown"), "{text:?}");
        assert!(at("shown") < at("\u{1b}[?1049l"), "{text:?}");
        assert!(at("\u{1b}[?1049l") < at("it broke"), "{text:?}");
    }
}
