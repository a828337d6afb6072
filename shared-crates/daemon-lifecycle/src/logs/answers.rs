//! What the log thread does for those who ask.

use std::io;
use std::sync::Arc;

use rustix::event::epoll;

use super::lines::Stream;
use super::requests::{Opened, Request, Which};
use super::thread::Keeper;

impl Keeper {
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Add(id, unit) => {
                self.busy.insert(id);
                self.units.insert(id, unit);
                self.keep_policy(id);
            }
            Request::Replace(id, stream, fifo) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.replace_fifo(stream, fifo);
                    self.busy.insert(id);
                }
            }
            Request::SetPolicy(id, policy) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    let kept = unit.set_policy(policy);
                    self.after_keeping(id, kept);
                }
            }
            // Nobody waits for an answer any more: that is their choice.
            Request::EndRun(id, reply) => drop(reply.send(self.end_run(id))),
            Request::Open(id, which, reply) => drop(reply.send(self.open(id, which))),
            Request::Follow(id, reply) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    let _ = reply.send(unit.follow());
                }
            }
            Request::Unfollow(id) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.forget_gone_followers();
                }
            }
            Request::Close(id, reply) => {
                self.close(id);
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
            Request::End(_) => {}
        }
    }

    fn end_run(&mut self, id: u32) -> Vec<String> {
        self.drain(id, true);
        let tail = self.units.get_mut(&id).map(|unit| unit.tail(&self.tools));
        tail.transpose()
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read a log's last lines");
                None
            })
            .unwrap_or_default()
    }

    fn drain(&mut self, id: u32, flush: bool) {
        if let Some(unit) = self.units.get_mut(&id) {
            let drained = unit.drain(flush, &mut self.tools);
            self.after_work(id, drained);
        }
    }

    fn open(&mut self, id: u32, which: Which) -> io::Result<Option<Opened>> {
        let Some(unit) = self.units.get_mut(&id) else { return Ok(None) };
        let files = unit.files();
        let found = match which {
            Which::Newest => {
                // Made again where somebody removed it.
                files.look()?;
                Some(files.open_from(files.generation())?)
            }
            Which::Before(generation) => files.open_before(generation)?,
            Which::From(generation) => {
                files.look()?;
                Some(files.open_from(generation)?)
            }
        };
        let Some((file, generation)) = found else { return Ok(None) };
        // The newest one may hold a part of a batch that failed.
        let len = if generation == files.generation() { files.len() } else { file.metadata()?.len() };
        Ok(Some(Opened { file: Arc::new(file), generation, len }))
    }

    fn close(&mut self, id: u32) {
        self.drain(id, true);
        let Some(unit) = self.units.remove(&id) else { return };
        for stream in [Stream::Out, Stream::Err] {
            // It is not watched any more once it is closed, either.
            let _ = epoll::delete(&self.shared.epoll, unit.fifo(stream).file());
        }
        if let Some(alarm) = unit.alarm {
            self.alarms.remove(&(alarm, id));
        }
        for set in [&mut self.busy, &mut self.stuck, &mut self.unfinished] {
            set.remove(&id);
        }
        let (log, aside) = unit.into_aside();
        self.shared.aside().put_back(&log, aside);
    }

    pub(super) fn end(&mut self, drain: bool) {
        if drain {
            for id in self.units.keys().copied().collect::<Vec<_>>() {
                // Whoever writes yet may have a line unfinished, which is the next supervisor's.
                self.drain(id, false);
            }
        }
        self.units.clear();
        self.shared.end();
    }
}
