//! What ties jobs in memory to others.

use crate::broker::GroupView;
use crate::time::Unix;

/// A group and its callbacks, as long as those are not let go.
#[derive(Debug)]
pub(super) struct Group {
    pub view: GroupView,
    pub on_done: Option<i64>,
    pub on_failure: Option<i64>,
    pub expires: Option<Unix>,
}

/// What ties a job to others; nothing for a plain one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ties {
    pub group: Option<i64>,
    pub next: Option<i64>,
}
