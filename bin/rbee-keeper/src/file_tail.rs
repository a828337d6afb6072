//! The end of a log file, and what is appended to it, without polling: the kernel says when it changes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe;

/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Changes told at once; what they say does not matter.
const EVENTS_BYTES: usize = 4096;

/// Writes the last `lines` lines of the file; with `follow` also all that comes, until `write` fails.
///
/// # Errors
/// What reading, watching or `write` says.
pub(crate) fn tail(
    path: &Path,
    lines: usize,
    follow: bool,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let watch = follow.then(|| Watch::on(path, InitFlags::empty())).transpose()?;
    let mut file = File::open(path)?;
    seek_to_last(&mut file, lines)?;
    copy_rest(&mut file, &mut write)?;
    let Some(watch) = watch else { return Ok(()) };
    loop {
        watch.wait()?;
        copy_news(&mut file, path, &watch, &mut write)?;
    }
}

/// The same for a task, which waits without a thread of its own.
pub(crate) struct Tail {
    path: PathBuf,
    file: File,
    watch: Watch,
    changes: pipe::Receiver,
}

impl Tail {
    /// The last `lines` lines, and what gives all that comes.
    ///
    /// # Errors
    /// What reading or watching says.
    pub(crate) fn open(path: &Path, lines: usize) -> io::Result<(Self, Vec<u8>)> {
        let watch = Watch::on(path, InitFlags::IN_NONBLOCK)?;
        // No pipe, but it is read like one: the way without `unsafe` to wait for a descriptor of this sort.
        let changes = pipe::Receiver::from_owned_fd_unchecked(watch.0.as_fd().try_clone_to_owned()?)?;
        let mut file = File::open(path)?;
        seek_to_last(&mut file, lines)?;
        let mut last = Vec::new();
        file.read_to_end(&mut last)?;
        Ok((Self { path: path.to_owned(), file, watch, changes }, last))
    }

    /// What was appended, as soon as there is something.
    ///
    /// # Errors
    /// What reading or watching says.
    pub(crate) async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            self.changes.readable().await?;
            match self.changes.try_read(&mut [0; EVENTS_BYTES]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                read => _ = read?,
            }
            let mut news = Vec::new();
            copy_news(&mut self.file, &self.path, &self.watch, &mut |piece: &[u8]| {
                news.extend_from_slice(piece);
                Ok(())
            })?;
            if !news.is_empty() {
                return Ok(news);
            }
        }
    }
}

/// Copies what was appended since, also when the file was cut or replaced.
fn copy_news(
    file: &mut File,
    path: &Path,
    watch: &Watch,
    write: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if file.metadata()?.len() < file.stream_position()? {
        file.rewind()?;
    }
    copy_rest(file, write)?;
    if is_replaced(file, path)? {
        // Rotated: the old file is read to its end, the new one begins at its start.
        watch.renew(path)?;
        *file = File::open(path)?;
        copy_rest(file, write)?;
    }
    Ok(())
}

/// Whether the path names another file now. One that is away for a moment counts as the old one.
fn is_replaced(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.metadata() {
        Ok(named) => Ok((held.dev(), held.ino()) != (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Watches the folder too: a new file under the old name is news of the folder alone.
struct Watch(Inotify);

impl Watch {
    fn on(path: &Path, how: InitFlags) -> io::Result<Self> {
        let watch = Self(Inotify::init(InitFlags::IN_CLOEXEC | how)?);
        if let Some(folder) = path.parent() {
            watch.0.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        }
        watch.renew(path)?;
        Ok(watch)
    }

    fn renew(&self, path: &Path) -> io::Result<()> {
        self.0.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        Ok(())
    }

    /// Waits for a change.
    fn wait(&self) -> io::Result<()> {
        loop {
            match self.0.read_events() {
                Err(nix::errno::Errno::EINTR) => {}
                events => return Ok(events.map(drop)?),
            }
        }
    }
}

fn copy_rest(file: &mut File, write: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            count => write(&chunk[..count])?,
        }
    }
}

/// Puts the file's position at the start of its last `lines` lines, reading backwards from the end.
fn seek_to_last(file: &mut File, lines: usize) -> io::Result<()> {
    let mut position = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(());
    }
    let mut newlines = 0;
    let mut at_end = true;
    while position > 0 {
        let count = position.min(CHUNK_BYTES as u64);
        position -= count;
        file.seek(SeekFrom::Start(position))?;
        let mut chunk = Vec::new();
        file.by_ref().take(count).read_to_end(&mut chunk)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            // The newline that ends the file ends its last line; it starts none.
            if *byte == b'\n' && !at_end {
                newlines += 1;
                if newlines == lines {
                    file.seek(SeekFrom::Start(position + index as u64 + 1))?;
                    return Ok(());
                }
            }
            at_end = false;
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc;

    use super::tail;

    fn last(text: &str, lines: usize) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut seen = Vec::new();
        tail(file.path(), lines, false, |piece| {
            seen.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn the_last_lines_are_whole() {
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 2), "b\nc");
        assert_eq!(last("a\nb\n", 9), "a\nb\n");
        assert_eq!(last("a\nb\n", 0), "");
        assert_eq!(last("", 3), "");
        let long = "x".repeat(100_000);
        assert_eq!(last(&format!("first\n{long}\nlast\n"), 2), format!("{long}\nlast\n"));
    }

    #[test]
    fn new_lines_and_a_new_file_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queen.log");
        std::fs::write(&path, "old\n").unwrap();
        let (send, pieces) = mpsc::channel::<String>();
        let followed = path.clone();
        let reader = std::thread::spawn(move || {
            tail(&followed, 1, true, |piece| {
                let text = String::from_utf8_lossy(piece).into_owned();
                let over = text.contains("end");
                send.send(text).map_err(std::io::Error::other)?;
                if over { Err(std::io::Error::other("enough")) } else { Ok(()) }
            })
        });
        assert_eq!(pieces.recv().unwrap(), "old\n");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(pieces.recv().unwrap(), "new\n");
        let next = folder.path().join("next");
        std::fs::write(&next, "end\n").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(pieces.recv().unwrap(), "end\n");
        assert!(reader.join().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_task_gets_the_end_and_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queen.log");
        std::fs::write(&path, "older\nold\n").unwrap();
        let (mut followed, last) = super::Tail::open(&path, 1).unwrap();
        assert_eq!(last, b"old\n");
        let mut seen = Vec::new();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"new\n").unwrap();
        seen.extend(followed.next().await.unwrap());
        assert_eq!(seen, b"new\n");
        let next = folder.path().join("next");
        std::fs::write(&next, "of a new file\n").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(followed.next().await.unwrap(), b"of a new file\n");
    }
}
