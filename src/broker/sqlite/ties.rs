//! What ties jobs of the file to others.

/// What ties a job to others; nothing for a plain one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ties {
    /// The group that counts it.
    pub grp: Option<i64>,
    /// The job that gets its result.
    pub next: Option<i64>,
}

impl Ties {
    /// Whether it is no plain job.
    pub fn is_some(self) -> bool {
        self.grp.is_some() || self.next.is_some()
    }
}
