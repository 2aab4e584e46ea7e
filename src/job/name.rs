//! What names a job, a group, a queue or a pool: short printable text.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest job id, queue name and task name, in bytes.
pub const NAME_LEN_MAX: usize = 255;

/// Why a text can't name a job, queue, task or pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// More than [`NAME_LEN_MAX`] bytes.
    #[error("is {0} bytes long, above the limit of {NAME_LEN_MAX}")]
    TooLong(usize),
    /// A control character or a line break.
    #[error("contains the control character {0:?}")]
    Control(char),
}

/// Checks a name: 1 to [`NAME_LEN_MAX`] bytes of UTF-8 without control characters.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(NameError::Control(c)),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name; see [`check_name`].
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_name(name).map(|()| $name(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// A job's identity, unique in its broker. Producers may choose it; the default is a UUIDv7.
    JobId
}
name_type! {
    /// A group's identity, unique in its broker; the default is a UUIDv7.
    GroupId
}
name_type! {
    /// A queue's name.
    QueueName
}
name_type! {
    /// A pool's name: `[pools.NAME]`; the command line describes the pool `default`.
    PoolName
}

impl JobId {
    /// A fresh id that sorts by the time of its making.
    pub fn generate() -> Self {
        let mut text = [0u8; uuid::fmt::Hyphenated::LENGTH];
        JobId((&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text)).into())
    }
}

impl GroupId {
    /// A fresh id that sorts by the time of its making.
    pub fn generate() -> Self {
        GroupId(JobId::generate().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_printable_text() {
        assert_eq!(check_name("mail"), Ok(()));
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name("a\nb"), Err(NameError::Control('\n')));
        assert_eq!(check_name(&"x".repeat(256)), Err(NameError::TooLong(256)));
    }

    #[test]
    fn generated_ids_sort_by_time() {
        let ids: Vec<JobId> = (0..1000).map(|_| JobId::generate()).collect();
        assert!(ids.is_sorted());
    }
}
