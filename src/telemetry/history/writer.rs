//! A thread that writes the history, so that the supervisor's loop never waits for a disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::time::Unix;

use super::record::{Decided, Record};
use super::steps::Steps;
use super::{file, retention};

/// Decisions that may wait for the disk. What exceeds them is not kept.
const WAITING_MAX: usize = 1024;
/// The file is written anew when so much was appended to it, in bytes, and as much as it held.
const APPENDED_MIN: u64 = 1 << 20;
/// How long the end of a supervisor waits for the last records.
const FAREWELL: Duration = Duration::from_secs(1);

/// The supervisor's end.
#[derive(Debug)]
pub struct Writer {
    decisions: Option<SyncSender<Box<Decided>>>,
    ended: Receiver<()>,
}

impl Writer {
    /// Writes the history of a socket from now on, behind what is there.
    pub fn start(path: PathBuf, now: Unix) -> io::Result<Self> {
        let (decisions, received) = sync_channel(WAITING_MAX);
        let (ends, ended) = sync_channel(1);
        let write = move || {
            History::new(path, now).write_all(&received);
            let _ = ends.send(()); // who waits for it may have given up
        };
        std::thread::Builder::new().name("history".into()).spawn(write)?;
        Ok(Writer {
            decisions: Some(decisions),
            ended,
        })
    }

    /// Keeps a decision. Never waits.
    pub fn keep(&self, decided: Decided) {
        let Some(decisions) = &self.decisions else { return };
        if let Err(TrySendError::Full(_)) = decisions.try_send(Box::new(decided)) {
            tracing::debug!("the disk is slow: a decision is not kept in the history");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.decisions = None;
        let _ = self.ended.recv_timeout(FAREWELL); // a disk that hangs holds nobody up
    }
}

/// The file, as the thread knows it.
struct History {
    path: PathBuf,
    steps: Steps,
    /// `None`: it could not be written, and is tried anew.
    file: Option<File>,
    /// Which file has its name.
    inode: u64,
    /// Bytes when it was written anew, and appended since.
    len: u64,
    appended: u64,
    /// When it was written anew.
    since: Unix,
    /// The last write failed, which was told.
    is_failing: bool,
}

impl History {
    /// Takes up what is there: decisions behind the last step of their pool belong to a step that is not over.
    fn new(path: PathBuf, now: Unix) -> Self {
        let mut history = History {
            path,
            steps: Steps::default(),
            file: None,
            inode: 0,
            len: 0,
            appended: 0,
            since: now,
            is_failing: false,
        };
        let opened = history.take_up(now);
        history.tell_failure(opened);
        history
    }

    fn take_up(&mut self, now: Unix) -> io::Result<()> {
        let mut records = file::read(&self.path)?;
        let over = self.steps.take_up(&records);
        records.extend(over.into_iter().map(Record::Step));
        self.renew_with(records, now)
    }

    fn write_all(&mut self, decisions: &Receiver<Box<Decided>>) {
        while let Ok(decided) = decisions.recv() {
            let now = decided.decision.at;
            let over = self.steps.add(&decided);
            if self.has_lost_its_name() {
                let path = self.path.display();
                tracing::warn!(path = %path, "the history of decisions was removed or replaced; it goes on in a new file");
                let renewed = self.renew(now);
                self.tell_failure(renewed);
            }
            let mut records = over
                .map(Record::Step)
                .into_iter()
                .chain([Record::Decision(*decided)]);
            let written = records.try_for_each(|record| self.append(&record));
            if written.is_ok() && self.file.is_some() {
                self.tell_success();
            }
            self.tell_failure(written);
            let is_long = self.appended > self.len.max(APPENDED_MIN);
            if is_long || now.since(self.since) > retention::DECISIONS || self.file.is_none() {
                let renewed = self.renew(now);
                self.tell_failure(renewed);
            }
        }
    }

    /// Somebody removed the file, or put another one in its place: nobody would read what is written.
    fn has_lost_its_name(&self) -> bool {
        let named = || fs::symlink_metadata(&self.path).map(|file| file.ino());
        self.file.is_some() && !named().is_ok_and(|inode| inode == self.inode)
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(()); // it is written anew, and this is lost
        };
        let line = file::line_of(record)?;
        self.appended += line.len() as u64;
        file.write_all(&line)
    }

    /// Writes the file anew, without what is not kept any more.
    fn renew(&mut self, now: Unix) -> io::Result<()> {
        self.file = None;
        self.renew_with(file::read(&self.path)?, now)
    }

    fn renew_with(&mut self, records: Vec<Record>, now: Unix) -> io::Result<()> {
        let (file, len) = file::replace(&self.path, &retention::kept(records, now))?;
        self.inode = file.metadata()?.ino();
        (self.file, self.len, self.appended, self.since) = (Some(file), len, 0, now);
        Ok(())
    }

    /// Tells once that the file can't be written.
    fn tell_failure(&mut self, written: io::Result<()>) {
        let Err(error) = written else { return };
        self.file = None;
        if !std::mem::replace(&mut self.is_failing, true) {
            let path = self.path.display();
            tracing::warn!(path = %path, %error, "cannot write the history of decisions; it is tried again");
        }
    }

    /// Tells once that a decision was written after a failure. A file written anew does not count:
    /// on a full disk it takes the place of the old one, and has no room for the next decision.
    fn tell_success(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(path = %self.path.display(), "the history is written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::{Decision, QueueFlow};

    const NOON: Unix = Unix(1_700_000_100_000);

    fn decided(after_s: i64) -> Decided {
        Decided {
            pool: "default".into(),
            decision: Decision {
                at: Unix(NOON.0 + after_s * 1000),
                from: 2,
                to: 2,
                occasion: "period".into(),
                ..Decision::default()
            },
            queues: vec![QueueFlow {
                queue: "mail".into(),
                arrived: 1,
                ..QueueFlow::default()
            }],
        }
    }

    fn steps(records: &[Record]) -> Vec<(i64, u64)> {
        let step = |record: &Record| match record {
            Record::Step(step) => Some((step.at.0 - NOON.0, step.queues[0].flow.arrived)),
            Record::Decision(_) => None,
        };
        records.iter().filter_map(step).collect()
    }

    /// Restarts in the middle of a step, and torn in the middle of a line.
    #[test]
    fn a_step_goes_on_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history");
        let write = |seconds: std::ops::Range<i64>| {
            let writer = Writer::start(path.clone(), NOON).unwrap();
            seconds.step_by(5).for_each(|second| writer.keep(decided(second)));
        };
        write(0..50);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        write(100..205);
        let records = file::read(&path).unwrap();
        assert_eq!((records.len(), steps(&records)), (9 + 21, vec![]), "one was torn");
        write(505..510);
        assert_eq!(steps(&file::read(&path).unwrap()), [(0, 30)]);
        write(515..520);
        assert_eq!(
            steps(&file::read(&path).unwrap()),
            [(0, 30)],
            "it is written once"
        );
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history");
        let mut history = History::new(path.clone(), NOON);
        let mut keep = |second| {
            let (sender, received) = sync_channel(1);
            sender.send(Box::new(decided(second))).unwrap();
            drop(sender);
            history.write_all(&received);
            file::read(&path).unwrap().len()
        };
        assert_eq!(keep(0), 1);
        fs::remove_file(&path).unwrap();
        assert_eq!(keep(5), 1, "made anew");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "garbage\n").unwrap();
        assert_eq!((keep(10), keep(15)), (1, 2), "and replaced");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let later = directory.path().join("later");
        std::fs::write(&later, "in its place").unwrap();
        let path = later.join("history");
        let mut history = History::new(path.clone(), NOON);
        assert!(history.is_failing && history.file.is_none());
        std::fs::remove_file(&later).unwrap();
        let (sender, received) = sync_channel(2);
        sender.send(Box::new(decided(0))).unwrap();
        sender.send(Box::new(decided(5))).unwrap();
        drop(sender);
        history.write_all(&received);
        assert!(!history.is_failing);
        assert_eq!(
            file::read(&path).unwrap().len(),
            1,
            "what came while it could be written"
        );
    }

    #[test]
    fn a_file_written_anew_on_a_full_disk_is_no_success() {
        let directory = tempfile::tempdir().unwrap();
        let mut history = History::new(directory.path().join("history"), NOON);
        for second in [0, 5, 10] {
            // Every write to this device says that no space is left.
            history.file = Some(File::options().write(true).open("/dev/full").unwrap());
            let (sender, received) = sync_channel(1);
            sender.send(Box::new(decided(second))).unwrap();
            drop(sender);
            history.write_all(&received);
            assert!(history.file.is_some(), "the file itself could be written anew");
            assert!(history.is_failing, "the decision could not be written");
        }
    }

    #[test]
    fn the_file_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history");
        let (sender, received) = sync_channel(20_000);
        for second in 0..20_000 {
            sender.send(Box::new(decided(second))).unwrap();
        }
        drop(sender);
        History::new(path.clone(), NOON).write_all(&received);
        let records = file::read(&path).unwrap();
        assert!(records.len() < 2 * 3600 + 100, "{} records", records.len());
        assert_eq!(steps(&records).len(), 66);
    }
}
