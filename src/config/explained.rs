//! The settings in force, each with where it comes from.

use std::collections::BTreeMap;

use super::problem::Origin;
use super::values::Config;

/// A checked configuration with the origin of each of its values.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The settings.
    pub config: Config,
    /// By path, such as `pools.mail.max_workers`; a key that is not there has its default.
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Explained {
    /// Where the value of a key such as `pools.default.max_workers` comes from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }
}
