//! Certificates made for a test by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate authority in a directory of its own.
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let authority = Authority {
            dir: tempfile::tempdir().unwrap(),
        };
        let is_authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
        make(authority.dir.path(), "ca", &is_authority);
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for these names (`DNS:localhost`), and its private key.
    pub fn issue(&self, file: &str, names: &str) -> (PathBuf, PathBuf) {
        let (dir, names) = (self.dir.path(), format!("subjectAltName={names}"));
        let by_us = ["-addext", &names, "-CA", "ca.pem", "-CAkey", "ca.key"];
        make(dir, file, &by_us);
        (dir.join(format!("{file}.pem")), dir.join(format!("{file}.key")))
    }
}

fn make(dir: &Path, name: &str, more: &[&str]) {
    // Of the system's settings nothing is to be added.
    std::fs::write(
        dir.join("openssl.cnf"),
        "[req]\ndistinguished_name = name\n[name]\n",
    )
    .unwrap();
    let (subject, certificate, key) = (
        format!("/CN={name}"),
        format!("{name}.pem"),
        format!("{name}.key"),
    );
    let output = Command::new("openssl")
        .args([
            "req",
            "-config",
            "openssl.cnf",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-newkey",
            "ec",
        ])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &subject])
        .args(["-out", &certificate, "-keyout", &key])
        .args(more)
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
