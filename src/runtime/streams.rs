//! What a command reads and what becomes of its output.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::job::JobError;
use crate::wire::message::{CommandInput, CommandOutput};

/// The standard input of a job with this data. The error says what the data should be: another run can't help.
pub fn input(kind: CommandInput, payload: &[u8]) -> Result<Cow<'_, [u8]>, JobError> {
    if kind == CommandInput::Json || payload.trim_ascii().is_empty() {
        return Ok(Cow::Borrowed(payload));
    }
    let wrong = |expected: &str| {
        JobError::new(
            "wrong arguments",
            format!("expected {expected} (`stdin` of the task)"),
        )
    };
    if kind == CommandInput::Raw {
        let text: String = serde_json::from_slice(payload).map_err(|_| wrong("a JSON string"))?;
        return Ok(Cow::Owned(text.into_bytes()));
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Encoded {
        Text(String),
        // As a command's own output is kept, so that one can follow another.
        Object { base64: String },
    }
    let expected = "base64 in a JSON string, or in an object `{\"base64\": \"…\"}`";
    let (Encoded::Text(text) | Encoded::Object { base64: text }) =
        serde_json::from_slice(payload).map_err(|_| wrong(expected))?;
    let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| wrong(expected))?;
    Ok(Cow::Owned(bytes))
}

/// Appends what was printed as a result in JSON.
pub fn to_json(kind: CommandOutput, stdout: &[u8], result: &mut Vec<u8>) {
    let trimmed = stdout.trim_ascii();
    let text = std::str::from_utf8(stdout)
        .ok()
        .filter(|_| kind != CommandOutput::Base64);
    let Some(text) = text else {
        let text = BASE64_STANDARD.encode(stdout);
        return result.extend_from_slice(format!("{{\"base64\":\"{text}\"}}").as_bytes());
    };
    let is_auto = kind == CommandOutput::Auto;
    if is_auto && trimmed.is_empty() {
        result.extend_from_slice(b"null");
    } else if is_auto && serde_json::from_slice::<IgnoredAny>(trimmed).is_ok() {
        result.extend_from_slice(trimmed);
    } else {
        let text = text.strip_suffix('\n').unwrap_or(text);
        serde_json::to_writer(result, text).expect("text is always JSON, memory always writable");
    }
}

/// A file for the output of one job. It has its name only when the job has ended well, and is deleted otherwise.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    partial: PathBuf,
    is_kept: bool,
}

impl OutputFile {
    /// Makes the file of this job, and opens it for the program.
    pub fn create(directory: &Path, job: &str) -> io::Result<(Self, File)> {
        let name = file_name(job);
        let partial = directory.join(format!(".{name}.part"));
        let file = File::create(&partial)?;
        let output = OutputFile {
            path: directory.join(name),
            partial,
            is_kept: false,
        };
        Ok((output, file))
    }

    /// Bytes that the program has written.
    pub fn len(&self) -> io::Result<u64> {
        fs::metadata(&self.partial).map(|file| file.len())
    }

    /// Gives the file its name, in place of one of an earlier run. Appends its path and length as a result in JSON.
    pub fn keep(mut self, result: &mut Vec<u8>) -> io::Result<()> {
        let len = self.len()?;
        fs::rename(&self.partial, &self.path)?;
        self.is_kept = true;
        let told = serde_json::json!({ "file": self.path.to_string_lossy(), "bytes": len });
        result.extend_from_slice(told.to_string().as_bytes());
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_file(&self.partial)
        {
            // Standard error goes to the log, with worker and job.
            eprintln!("cannot delete `{}`: {error}", self.partial.display());
        }
    }
}

/// A job's id as the name of a file. What could leave the directory or hide the file is written as in a URL.
fn file_name(job: &str) -> String {
    let plain =
        |at: usize, c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (c == '.' && at > 0);
    let mut name = String::new();
    for (at, c) in job.char_indices() {
        if plain(at, c) {
            name.push(c);
        } else {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            name.extend(bytes.map(|byte| format!("%{byte:02X}")));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn json(kind: CommandOutput, stdout: &[u8]) -> String {
        let mut result = Vec::new();
        to_json(kind, stdout, &mut result);
        String::from_utf8(result).unwrap()
    }

    #[test]
    fn output_that_is_json_is_the_result_and_text_becomes_a_string() {
        for (stdout, result) in [
            ("", "null"),
            ("42\n", "42"),
            ("{\"a\": [1, 2]}\n", "{\"a\": [1, 2]}"),
            ("two\nlines\n", r#""two\nlines""#),
            ("1 2", r#""1 2""#),
            ("{\"a\": NaN}", r#""{\"a\": NaN}""#),
        ] {
            assert_eq!(json(CommandOutput::Auto, stdout.as_bytes()), result);
        }
        assert_eq!(json(CommandOutput::Text, b"42\n"), r#""42""#);
        assert_eq!(json(CommandOutput::Text, b""), r#""""#);
    }

    #[test]
    fn output_that_is_no_text_loses_no_byte() {
        for (kind, bytes) in [
            (CommandOutput::Auto, &b"\x89PNG\r\n\x1a\n"[..]),
            (CommandOutput::Auto, b"caf\xe9\n"),
            (CommandOutput::Text, b"{\"a\": \"\xff\"}"),
            (CommandOutput::Base64, b"plain text\n"),
            (CommandOutput::Base64, b""),
        ] {
            let result: BTreeMap<String, String> = serde_json::from_str(&json(kind, bytes)).unwrap();
            assert_eq!(result.keys().collect::<Vec<_>>(), ["base64"]);
            assert_eq!(BASE64_STANDARD.decode(&result["base64"]).unwrap(), bytes);
        }
    }

    #[test]
    fn input_is_the_data_its_text_or_its_bytes() {
        for (kind, payload, expected) in [
            (CommandInput::Json, r#"{"a": 1}"#, &br#"{"a": 1}"#[..]),
            (CommandInput::Raw, r#""a \"b\"\n""#, b"a \"b\"\n"),
            (CommandInput::Raw, "", b""),
            (CommandInput::Base64, r#""iVBORw==""#, b"\x89PNG"),
            (CommandInput::Base64, r#"{"base64":"iVBORw=="}"#, b"\x89PNG"),
        ] {
            assert_eq!(&*input(kind, payload.as_bytes()).unwrap(), expected, "{payload}");
        }
    }

    #[test]
    fn data_of_another_kind_is_refused() {
        for (kind, payload) in [
            (CommandInput::Raw, "[1]"),
            (CommandInput::Base64, "7"),
            (CommandInput::Base64, r#""no base64!""#),
        ] {
            let error = input(kind, payload.as_bytes()).unwrap_err();
            assert_eq!(error.kind, "wrong arguments");
        }
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let files = || fs::read_dir(directory.path()).unwrap().count();
        let (output, file) = OutputFile::create(directory.path(), "a/../b").unwrap();
        io::Write::write_all(&mut &file, b"bytes").unwrap();
        drop(output);
        assert_eq!(files(), 0);
        let (output, file) = OutputFile::create(directory.path(), "a/../b").unwrap();
        io::Write::write_all(&mut &file, b"bytes").unwrap();
        let mut result = Vec::new();
        output.keep(&mut result).unwrap();
        let path = directory.path().join("a%2F..%2Fb");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        let told: serde_json::Value = serde_json::from_slice(&result).unwrap();
        assert_eq!(told, serde_json::json!({ "file": path, "bytes": 5 }));
        assert_eq!(files(), 1);
    }

    #[test]
    fn no_name_of_a_file_leaves_its_directory_or_is_hidden() {
        assert_eq!(file_name("0199d1c5-6f3a"), "0199d1c5-6f3a");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("ä b"), "%C3%A4%20b");
    }
}
