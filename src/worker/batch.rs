//! A batch: its frames are read together, its jobs are run by one call, each has an answer of its own.

use super::{Worker, WorkerError, outcome};
use crate::runtime::executor::Answer;
use crate::sys::socket::{Received, Sent, Wait, recv};
use crate::time::Mono;
use crate::wire::frame::{Assembler, KIND_RUN, Run, another_follows};

impl Worker {
    /// Reads the frames behind the first one of a batch: the bodies of all of them. `None`: the socket has ended.
    pub(super) fn read_batch(
        &mut self,
        first: Vec<u8>,
        frames: &mut Assembler,
        buffer: &mut [u8],
    ) -> Result<Option<Vec<Vec<u8>>>, WorkerError> {
        let mut bodies = vec![first];
        loop {
            let Received::Packet(len) = recv(&*self.station.jobs, buffer, Wait::Block)? else {
                return Ok(None);
            };
            if let Some((kind, body)) = frames.take(&buffer[..len])? {
                Run::decode(kind, body)?;
                bodies.push(body.to_vec());
                if !another_follows(&buffer[..len]) {
                    return Ok(Some(bodies));
                }
            }
        }
    }

    /// Runs a batch and answers for each of its jobs. Returns when the last one ended; `None`: nobody listens any more.
    pub(super) fn run_batch(
        &mut self,
        bodies: &[Vec<u8>],
        started: Mono,
    ) -> Result<Option<Mono>, WorkerError> {
        let runs: Result<Vec<Run<'_>>, _> = bodies.iter().map(|body| Run::decode(KIND_RUN, body)).collect();
        let runs = runs?;
        if let (Some(title), Some(first)) = (&mut self.station.title, runs.first()) {
            title.set(&["pool: ", &self.station.about, " busy ", first.task]);
        }
        match self.executor.execute_batch(&runs, started) {
            Some(answers) => self.answer_all(&runs, answers, started),
            None => self.run_one_by_one(&runs, started),
        }
    }

    fn run_one_by_one(&mut self, runs: &[Run<'_>], mut started: Mono) -> Result<Option<Mono>, WorkerError> {
        for run in runs {
            started = self.execute(run, started);
            if self.send()? == Sent::Closed {
                return Ok(None);
            }
        }
        Ok(Some(started))
    }

    /// Each job gets an equal share of the batch's time, so that the worker counts as busy once, not once a job.
    fn answer_all(
        &mut self,
        runs: &[Run<'_>],
        answers: Vec<Answer>,
        started: Mono,
    ) -> Result<Option<Mono>, WorkerError> {
        let _ = std::io::Write::flush(&mut std::io::stdout());
        let ended = Mono::now();
        let took = ended.since(started).as_nanos() as u64;
        let share = |at: usize| Mono(started.0 + (u128::from(took) * at as u128 / runs.len() as u128) as u64);
        for (at, (run, answer)) in runs.iter().zip(answers).enumerate() {
            let ending = outcome::bounded(answer.ending, answer.result.len(), self.station.max_result);
            outcome::encode_answer(
                run.execution,
                (share(at), share(at + 1)),
                (&ending, answer.whole_batch),
                &answer.result,
                &mut self.packets,
            );
            if self.send()? == Sent::Closed {
                return Ok(None);
            }
        }
        Ok(Some(ended))
    }
}
