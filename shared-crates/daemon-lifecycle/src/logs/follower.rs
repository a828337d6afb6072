//! Reading a log as it grows.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Following;

/// Log lines as they are written.
#[derive(Debug)]
pub struct LogFollower {
    last: VecDeque<String>,
    new: broadcast::Receiver<Arc<str>>,
}

impl LogFollower {
    pub(super) fn new(following: Following) -> Self {
        Self { last: following.last.into(), new: following.new }
    }

    /// The next line, without its newline; `None` when the unit is forgotten or the supervisor closed. A reader that fell too far
    /// behind gets one line that says how many it missed. Cancel safe.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(line) = self.last.pop_front() {
            return Some(line);
        }
        match self.new.recv().await {
            Ok(line) => Some(line.to_string()),
            Err(RecvError::Lagged(missed)) => Some(format!("… {missed} lines missed: this reader is too slow …")),
            Err(RecvError::Closed) => None,
        }
    }
}
