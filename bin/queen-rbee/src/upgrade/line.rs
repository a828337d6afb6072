//! The line between the old queen and the new one: one JSON object a line. Its end is the other's end.

use std::path::PathBuf;

use rbee_api::Heartbeat;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// No message is longer: the heartbeats of a whole fleet fit in.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Messages heard and not yet listened to.
const WORDS_WAITING_MAX: usize = 64;

/// What the old queen says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromOld {
    /// Locks, store and hive are free: take them.
    Yours(Box<Estate>),
    /// The PID file names you.
    Named,
}

/// What a new queen would otherwise learn only by and by.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Estate {
    /// The last heartbeat of each hive that is alive.
    pub heartbeats: Vec<(String, Heartbeat)>,
    /// The program that this machine's hive was started from.
    pub hive_program: Option<PathBuf>,
}

/// What the new queen says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromNew {
    /// Read all it needs; it waits.
    Hello,
    /// It serves.
    Ready,
    /// It cannot.
    Refused(String),
    /// A hive spoke: the old one's answers may need to know.
    Heard {
        /// Which.
        hive: String,
        /// What it said.
        heartbeat: Box<Heartbeat>,
    },
    /// It ends: the old one shall end its last answers too, at once where `now`.
    Stop {
        /// Without patience.
        now: bool,
    },
}

/// One end; `T` is what the other says.
#[derive(Debug)]
pub(super) struct Line<T> {
    heard: mpsc::Receiver<T>,
    write: OwnedWriteHalf,
}

impl<T: DeserializeOwned + Send + 'static> Line<T> {
    /// Listens from now on.
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let (words, heard) = mpsc::channel(WORDS_WAITING_MAX);
        tokio::spawn(listen(BufReader::new(read), words));
        Self { heard, write }
    }

    /// Says something; that the other may be gone is found out by listening.
    pub(super) async fn say(&mut self, words: &impl Serialize) {
        let Ok(mut text) = serde_json::to_vec(words) else { return };
        text.push(b'\n');
        if let Err(error) = self.write.write_all(&text).await {
            tracing::debug!(%error, "nobody is at the other end of the handover's line");
        }
    }

    /// The next words; `None` when the other has ended, or speaks another language. Safe to drop in between.
    pub(super) async fn hear(&mut self) -> Option<T> {
        self.heard.recv().await
    }
}

async fn listen<T: DeserializeOwned>(mut read: BufReader<OwnedReadHalf>, words: mpsc::Sender<T>) {
    loop {
        let mut text = Vec::new();
        let read = (&mut read).take(MESSAGE_BYTES_MAX).read_until(b'\n', &mut text).await;
        if !matches!(read, Ok(len) if len > 0) || text.last() != Some(&b'\n') {
            return;
        }
        match serde_json::from_slice(&text) {
            Ok(word) => {
                if words.send(word).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "not understood at a handover");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_arrive_whole_and_the_end_is_heard() {
        let (old, new) = UnixStream::pair().unwrap();
        let (mut old, mut new) = (Line::<FromNew>::new(old), Line::<FromOld>::new(new));
        new.say(&FromNew::Refused("a\nb".into())).await;
        new.say(&FromNew::Stop { now: true }).await;
        old.say(&FromOld::Yours(Box::default())).await;
        assert!(matches!(old.hear().await, Some(FromNew::Refused(why)) if why == "a\nb"));
        assert!(matches!(old.hear().await, Some(FromNew::Stop { now: true })));
        assert!(matches!(new.hear().await, Some(FromOld::Yours(_))));
        drop(old);
        assert!(new.hear().await.is_none());
    }

    #[tokio::test]
    async fn another_language_is_an_end() {
        let (mut old, new) = UnixStream::pair().unwrap();
        let mut new = Line::<FromOld>::new(new);
        old.write_all(b"{\"bonjour\":1}\n").await.unwrap();
        assert!(new.hear().await.is_none());
    }
}
