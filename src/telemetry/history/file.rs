//! Reading and writing the file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::record::Record;

/// Longest line that is read: no record comes near it.
const LINE_LEN_MAX: usize = 1 << 20;

/// All records of a file that can be read, in their order. A file that is not there holds none; a line that was torn, or is
/// of another version, is left out.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    // A pipe would never be opened, and a device never end.
    match fs::metadata(path) {
        Ok(at) if !at.is_file() => return Err(io::Error::other("it is no regular file")),
        _ => (),
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        let readable = line.len() <= LINE_LEN_MAX;
        records.extend(readable.then(|| serde_json::from_slice(&line).ok()).flatten());
    }
    Ok(records)
}

/// Replaces the file by these records, all or nothing, and makes its directory. Returns the new one, to be appended to, and its length in bytes.
pub fn replace(path: &Path, records: &[Record]) -> io::Result<(File, u64)> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(fresh)?;
    let mut out = BufWriter::new(file);
    let mut len = 0;
    for record in records {
        let line = line_of(record)?;
        out.write_all(&line)?;
        len += line.len() as u64;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(fresh, path)?;
    Ok((file, len))
}

/// A record as a line.
pub fn line_of(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::history::record::Step;

    fn step(pool: &str) -> Record {
        Record::Step(Step {
            pool: pool.into(),
            ..Step::default()
        })
    }

    #[test]
    fn what_is_written_reads_back_and_torn_lines_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pool.sock.history");
        assert_eq!(read(&path).unwrap(), []);
        let (mut file, len) = replace(&path, &[step("a"), step("b")]).unwrap();
        assert_eq!(len, fs::metadata(&path).unwrap().len());
        let line = line_of(&step("c")).unwrap();
        file.write_all(&line[..line.len() / 2]).unwrap();
        file.write_all(b"\n\xff\n\n{}\n").unwrap();
        file.write_all(&line).unwrap();
        assert_eq!(read(&path).unwrap(), [step("a"), step("b"), step("c")]);
        // Torn at each byte, whole lines before it stay.
        let whole = fs::read(&path).unwrap();
        let all = read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let left = read(&path).unwrap();
            assert_eq!(left, all[..left.len()], "cut at {len}");
        }
    }
}
