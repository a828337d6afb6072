//! Texts to vectors, a chunk between any two batches, so that answers are not held up by long texts.

use std::collections::VecDeque;

use rbee_api::{ApiError, ErrorCode};

use crate::engine::{Engine, EngineError};
use crate::job::EmbedJob;

/// Jobs that wait, and how far the first has got.
#[derive(Default)]
pub(super) struct Embeddings {
    jobs: VecDeque<EmbedJob>,
    done: Vec<Vec<f32>>,
    /// Tokens of the current text that are in the engine.
    fed: usize,
    /// Sum of their states.
    sum: Vec<f32>,
}

impl Embeddings {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn push(&mut self, job: EmbedJob) {
        self.jobs.push_back(job);
    }

    /// Ends all of them with this error.
    pub(super) fn fail_all(&mut self, error: &ApiError) {
        while !self.is_empty() {
            self.answer(Err(error.clone()));
        }
    }

    /// Runs one chunk of the first job. Gives the number of tokens of a text that is done with it.
    pub(super) fn step<E: Engine>(&mut self, engine: &mut E) -> Result<usize, EngineError> {
        while self.jobs.front().is_some_and(|job| job.reply.is_closed()) {
            self.jobs.pop_front();
            self.reset();
        }
        let Some(job) = self.jobs.front() else { return Ok(0) };
        let Some(text) = job.inputs.get(self.done.len()) else {
            let vectors = std::mem::take(&mut self.done);
            self.answer(Ok(vectors));
            return Ok(0);
        };
        let end = text.len().min(self.fed + engine.batch_tokens_max());
        if let Err(error) = engine.embed(&text[self.fed..end], self.fed, &mut self.sum) {
            self.answer(Err(ApiError::new(ErrorCode::WorkerFailed, format!("no vector could be made: {error}"))));
            return Err(error);
        }
        self.fed = end;
        if end < text.len() {
            return Ok(0);
        }
        self.done.push(normalized(std::mem::take(&mut self.sum)));
        self.fed = 0;
        if self.done.len() == job.inputs.len() {
            let vectors = std::mem::take(&mut self.done);
            self.answer(Ok(vectors));
        }
        Ok(end)
    }

    fn answer(&mut self, result: Result<Vec<Vec<f32>>, ApiError>) {
        if let Some(job) = self.jobs.pop_front() {
            // Fails only when nobody waits for it any more.
            let _ = job.reply.send(result);
        }
        self.reset();
    }

    fn reset(&mut self) {
        self.done.clear();
        self.sum.clear();
        self.fed = 0;
    }
}

/// Of length one. The mean over a text's tokens differs from their sum in length alone.
fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    vector
}
