//! What a dialect's own program has for settings: its variables, its settings module. Pure.

use std::collections::BTreeMap;

/// Variables of another program by the flag of ours that each stands for: name and text.
pub(in crate::config) type OwnVariables = BTreeMap<&'static str, (&'static str, String)>;

/// What a dialect's own settings say, by our flag: its texts, and the setting's name.
pub(in crate::config) type Said = BTreeMap<&'static str, (Vec<String>, &'static str)>;

/// What a dialect's own settings say, below all else.
#[derive(Clone, Debug)]
pub(in crate::config) struct Settings {
    /// The module that holds them; `None`: the environment.
    pub module: Option<String>,
    /// By flag.
    pub said: Said,
}
