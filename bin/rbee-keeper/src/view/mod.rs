//! The terminal view: what runs, what it uses, what it writes, what happens to it, and keys to act.
//!
//! Model, update, view: `state` is all that is known, `update` (pure) takes messages in and says what is to be done,
//! `draw` (pure) shows the state, `shell` does what is to be done. This file is the loop between them.

mod action;
mod draw;
mod keys;
mod message;
mod rows;
mod shell;
mod state;
#[cfg(test)]
mod tests;
mod update;

use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use jiff::Timestamp;
use rbee_runtime::config::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Screen;
use draw::Theme;
use message::{Effect, Message};
use shell::Shell;
use state::State;
use update::update;

/// The clock in the head.
const TICK: Duration = Duration::from_secs(1);
/// Between two pictures: a flood of lines costs no more than this many.
const PICTURE_GAP: Duration = Duration::from_millis(40);
/// Messages taken in for one picture.
const AT_ONCE: usize = 256;

/// Shows the view until somebody leaves it.
pub(crate) async fn run(context: &Context, config: &Config, every: Duration) -> Result<Exit, Failure> {
    let mut ends = Ends::new().map_err(|error| broken(&error))?;
    let (shell, messages) = Shell::start(context, config, every);
    let url = context.target(config).url().to_owned();
    let theme = Theme::new(context.ui.color());
    let mut screen = Screen::open().map_err(|error| broken(&error))?;
    let mut state = State::new(&url, Timestamp::now());
    state.page = page(&screen);
    state.patience_s += i64::try_from(every.as_secs()).unwrap_or(i64::MAX / 2);
    let view = View { state, shell, theme };
    view.run(&mut screen, messages, &mut ends).await.map_err(|error| broken(&error))
}

fn broken(error: &io::Error) -> Failure {
    Failure::new("terminal", "cannot go on with the terminal").because(error)
}

fn page(screen: &Screen) -> usize {
    usize::from(screen.lines() / 2).max(1)
}

struct View {
    state: State,
    shell: Shell,
    theme: Theme,
}

impl View {
    async fn run(
        mut self,
        screen: &mut Screen,
        mut messages: mpsc::Receiver<Message>,
        ends: &mut Ends,
    ) -> io::Result<Exit> {
        let mut keys = EventStream::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_picture = Instant::now();
        let mut changed = true;
        loop {
            let message = tokio::select! {
                biased;
                exit = ends.next() => return Ok(exit),
                () = tokio::time::sleep_until(next_picture), if changed => {
                    screen.draw(|frame| draw::draw(frame, &self.state, self.theme))?;
                    changed = false;
                    next_picture = Instant::now() + PICTURE_GAP;
                    continue;
                }
                event = keys.next() => match event {
                    Some(event) => of_terminal(event?, screen, &mut self.state),
                    None => return Ok(Exit::DONE),
                },
                message = messages.recv() => message,
                message = self.shell.acted() => Some(message),
                _ = tick.tick() => Some(Message::Tick),
            };
            let Some(message) = message else { continue };
            changed = true;
            let mut next = Some(message);
            for _ in 0..AT_ONCE {
                let Some(message) = next else { break };
                if self.take(screen, message)? {
                    return Ok(Exit::DONE);
                }
                next = messages.try_recv().ok();
            }
            if let Some(message) = next
                && self.take(screen, message)?
            {
                return Ok(Exit::DONE);
            }
        }
    }

    /// Takes a message in and has done what is to be done; whether to leave.
    fn take(&mut self, screen: &mut Screen, message: Message) -> io::Result<bool> {
        let mut leave = false;
        for effect in update(&mut self.state, Timestamp::now(), message) {
            match effect {
                Effect::Quit => leave = true,
                Effect::Redraw => screen.clear()?,
                effect => self.shell.carry_out(effect),
            }
        }
        Ok(leave)
    }
}

/// What the terminal says, if it concerns us.
fn of_terminal(event: Event, screen: &Screen, state: &mut State) -> Option<Message> {
    match event {
        Event::Key(key) => Some(Message::Key(key)),
        Event::Paste(text) => Some(Message::Pasted(text)),
        Event::Resize(..) => {
            state.page = page(screen);
            Some(Message::Resized)
        }
        _ => None,
    }
}

/// The signals that end us.
struct Ends {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The exit that says by which signal we end, as shells do.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.hangup.recv() => Exit::by_signal(1),
            _ = self.interrupt.recv() => Exit::by_signal(2),
            _ = self.terminate.recv() => Exit::by_signal(15),
        }
    }
}
