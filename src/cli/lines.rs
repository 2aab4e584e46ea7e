//! Jobs from a stream of lines: each line is the arguments of one job.
//!
//! A thread reads, so that what a slow producer has written so far is enqueued at once and nothing waits for a full
//! chunk; a fast one fills chunks of its own accord.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use tokio::sync::mpsc;

use crate::broker::Producer;
use crate::job::{JobId, NewJob};

use super::progress::Progress;
use super::report::{Code, Failure, Outcome};
use super::{json, send};

/// Bytes that are read at once; also those of a chunk, unless a single line has more.
const READ_LEN: usize = 1 << 20;

/// Lines that were there at the same time, each with its end.
type Chunk = Vec<Vec<u8>>;

/// What a file is called in messages; `-` is standard input.
pub fn name_of(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        format!("`{}`", path.display())
    }
}

/// Adds a job like `like` for each line of the file and calls `added` with the ids of each chunk.
///
/// Stops at the first line that is no JSON, or that the broker does not take: all before it stay enqueued, as the
/// failure says.
pub async fn add(
    producer: &dyn Producer,
    like: &NewJob,
    path: &Path,
    mut added: impl FnMut(&[JobId]) -> Outcome,
) -> Outcome {
    let cannot_read = |error| Failure::new(Code::Usage, format!("cannot read {}: {error}", name_of(path)));
    let mut chunks = open(path).and_then(chunks).map_err(cannot_read)?;
    let progress = Progress::counting("enqueued");
    let mut done = Done::default();
    let work = async {
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.map_err(|error| done.told(path, cannot_read(error)))?;
            let Read { jobs, lines, wrong } = read(path, done.lines, &chunk, like);
            let count = jobs.len() as u64;
            if count > 0 {
                let sent = send::send(producer, jobs, &progress, &mut added).await;
                sent.map_err(|failure| done.told(path, failure))?;
            }
            done.lines += lines;
            done.jobs += count;
            wrong.map_or(Ok(()), |failure| Err(done.told(path, failure)))?;
        }
        Ok(())
    };
    progress.during(work).await
}

fn open(path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
    Ok(if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path)?)
    })
}

/// How far it got.
#[derive(Default)]
struct Done {
    lines: u64,
    jobs: u64,
}

impl Done {
    /// The failure with what became of the lines before it, and how to go on behind them.
    fn told(&self, path: &Path, failure: Failure) -> Failure {
        if self.jobs == 0 {
            return failure;
        }
        let (lines, next, name) = (self.lines, self.lines + 1, name_of(path));
        let done = match lines {
            1 => "line 1 was enqueued, nothing".to_owned(),
            lines => format!("lines 1 to {lines} were enqueued, nothing"),
        };
        failure.but(
            &format!("{done} after that"),
            format!("go on at line {next} of {name}: `tail -n +{next} FILE | pool enqueue TASK --jsonl -`"),
        )
    }
}

/// What a chunk holds.
struct Read {
    jobs: Vec<NewJob>,
    /// Lines that these jobs come from, empty ones between them included.
    lines: u64,
    /// What is wrong with the line behind them.
    wrong: Option<Failure>,
}

/// The jobs of a chunk that begins after `before` lines, up to one that is no JSON.
fn read(path: &Path, before: u64, chunk: &Chunk, like: &NewJob) -> Read {
    let mut jobs = Vec::with_capacity(chunk.len());
    for (line, at) in chunk.iter().zip(0..) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let what = format!("line {} of {}", before + at + 1, name_of(path));
        if let Err(failure) = check(&what, line) {
            return Read {
                jobs,
                lines: at,
                wrong: Some(failure),
            };
        }
        jobs.push(NewJob {
            id: JobId::generate(),
            payload: line.to_vec(),
            ..like.clone()
        });
    }
    Read {
        jobs,
        lines: chunk.len() as u64,
        wrong: None,
    }
}

fn check(what: &str, line: &[u8]) -> Outcome {
    match std::str::from_utf8(line) {
        Ok(text) => json::check_line(what, text),
        Err(error) => Err(Failure::new(Code::Usage, format!("{what} is no JSON: {error}"))),
    }
}

/// All lines of the stream, in chunks of what is there; the stream's end closes the channel.
///
/// The error is that of the thread that reads.
fn chunks(from: Box<dyn io::Read + Send>) -> io::Result<mpsc::Receiver<io::Result<Chunk>>> {
    let (sender, receiver) = mpsc::channel(1);
    // Not one of the event loop's own threads: the process can't leave while one of those waits for input.
    std::thread::Builder::new().spawn(move || {
        let mut from = BufReader::with_capacity(READ_LEN, from);
        loop {
            let chunk = lines_at_hand(&mut from);
            let has_failed = chunk.is_err();
            let has_ended = chunk.as_ref().is_ok_and(Vec::is_empty);
            if has_ended || sender.blocking_send(chunk).is_err() || has_failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The next line, which is waited for, and those behind it that are there already. None: the stream has ended.
fn lines_at_hand(from: &mut BufReader<impl io::Read>) -> io::Result<Chunk> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        lines.push(line);
        if lines.len() == send::CHUNK_JOBS_MAX || !from.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out what it holds piece by piece, as a slow producer does.
    struct Pieces(Vec<&'static [u8]>);

    impl io::Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn whole_lines_that_are_there_do_not_wait_for_more() {
        let mut from = BufReader::new(Pieces(vec![b"1\n2\n3", b"4\n", b"5"]));
        for expected in [&["1\n", "2\n"][..], &["34\n"], &["5"], &[]] {
            assert_eq!(
                lines_at_hand(&mut from).unwrap(),
                expected.iter().map(|line| line.as_bytes()).collect::<Vec<_>>()
            );
        }
    }
}
