//! Programs that a test makes and then runs.
//!
//! Another process writes them. A file that is open for writing can't be run ("Text file busy"), and what this process has
//! open is open in each child that another thread starts meanwhile, until that child runs its own program.

use std::path::Path;
use std::process::Command;

/// A copy of a program, which all may run.
pub fn copy(from: impl AsRef<Path>, to: &Path) {
    let status = Command::new("install")
        .arg("--mode=755")
        .args([from.as_ref(), to])
        .status();
    assert!(
        status.expect("install runs (coreutils)").success(),
        "{to:?} is written"
    );
}

/// A script, which all may run.
pub fn script(text: &str, to: &Path) {
    let source = tempfile::NamedTempFile::new().expect("a file for the script");
    std::fs::write(source.path(), text).expect("the script is written");
    copy(source.path(), to);
}
