//! What a node remembers when it begins again: tasks that were revoked, and its clock. Each line is a JSON object.
//!
//! Source: `celery/worker/state.py`, `Persistent`, which keeps a shelve that only Python reads. A revocation is written when
//! it is made, so a killed supervisor forgets none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::time::Unix;

/// Ids beyond which the file is written anew at the next revocation.
const IDS_MAX: usize = 100_000;

/// Where it is kept, as the application says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct StateFacts {
    /// Where we keep it.
    pub file: String,
    /// What a stock worker had kept, where we have kept nothing yet.
    #[serde(default)]
    pub revoked: Vec<String>,
    #[serde(default)]
    pub clock: i64,
}

/// One line.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Line {
    /// Milliseconds since 1970.
    at: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<String>,
    #[serde(default)]
    clock: i64,
}

/// What was read of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The oldest first.
    pub revoked: Vec<String>,
    pub clock: i64,
}

/// The file, open to be written.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    ids: usize,
}

impl StateFile {
    /// Opens it, and reads what is not older than `since`. A line that can't be read is passed over: the last one may be cut.
    ///
    /// # Errors
    /// It can't be read or written.
    pub fn open(path: &Path, since: Unix) -> io::Result<(Self, Remembered)> {
        let mut remembered = Remembered::default();
        match File::open(path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    let Ok(line) = serde_json::from_slice::<Line>(&line?) else {
                        continue;
                    };
                    remembered.clock = remembered.clock.max(line.clock);
                    if line.at >= since.0 {
                        remembered.revoked.extend(line.revoked);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = Self::write_anew(path, &remembered)?;
        let ids = remembered.revoked.len();
        let path = path.to_owned();
        Ok((StateFile { path, file, ids }, remembered))
    }

    fn write_anew(path: &Path, remembered: &Remembered) -> io::Result<File> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let mut file = File::create(&fresh)?;
        write(&mut file, remembered.revoked.clone(), remembered.clock)?;
        file.sync_data()?;
        fs::rename(&fresh, path)?;
        OpenOptions::new().append(true).open(path)
    }

    /// These were revoked, too. `all`: what is known by now, in case the file has become too long.
    pub fn add(&mut self, ids: &[String], clock: i64, all: impl FnOnce() -> Vec<String>) -> io::Result<()> {
        self.ids += ids.len();
        if self.ids <= IDS_MAX {
            return write(&mut self.file, ids.to_vec(), clock);
        }
        let revoked = all();
        self.ids = revoked.len();
        self.file = Self::write_anew(&self.path, &Remembered { revoked, clock })?;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn write(file: &mut File, revoked: Vec<String>, clock: i64) -> io::Result<()> {
    let at = Unix::now().0;
    let mut line = serde_json::to_vec(&Line { at, revoked, clock })?;
    line.push(b'\n');
    file.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_revoked_is_known_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (mut file, none) = StateFile::open(&path, Unix(0)).unwrap();
        assert_eq!(none, Remembered::default());
        file.add(&texts(&["a", "b"]), 7, Vec::new).unwrap();
        file.add(&texts(&["c"]), 9, Vec::new).unwrap();
        // It was cut while it wrote.
        let cut = OpenOptions::new().append(true).open(&path).unwrap();
        (&cut).write_all(b"{\"at\": 17").unwrap();
        let (mut file, known) = StateFile::open(&path, Unix(0)).unwrap();
        assert_eq!((known.revoked, known.clock), (texts(&["a", "b", "c"]), 9));
        let many: Vec<String> = (0..=IDS_MAX).map(|number| number.to_string()).collect();
        file.add(&many, 10, || texts(&["few"])).unwrap();
        let (_, known) = StateFile::open(&path, Unix(0)).unwrap();
        assert_eq!((known.revoked, known.clock), (texts(&["few"]), 10));
        let (_, none) = StateFile::open(&path, Unix(Unix::now().0 + 1000)).unwrap();
        assert_eq!((none.revoked.len(), none.clock), (0, 10));
        assert!(StateFile::open(&directory.path().join("none/state"), Unix(0)).is_err());
    }
}
