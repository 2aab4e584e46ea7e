//! What SQLite and the system say, as the user meets it.

use std::io;

use rusqlite::ErrorCode;

use crate::broker::BrokerError;

/// Why work on the database failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// The system said so.
    Io(io::Error),
    /// It holds what we did not write: where and what.
    Corrupt(String),
    /// In words already.
    Told(BrokerError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sql(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Failure {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Failure::Sql(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Failure::Told(error)
    }
}

impl Failure {
    /// Whether a row holds what we did not write, or is gone. The database itself is well.
    pub(super) fn is_of_a_row(&self) -> bool {
        match self {
            Failure::Corrupt(_) => true,
            Failure::Sql(error) => error.sqlite_error_code().is_none(),
            Failure::Io(_) | Failure::Told(_) => false,
        }
    }

    /// What happened, for a place where the broker is known.
    pub(super) fn reason(self) -> String {
        match self {
            Failure::Told(error) => error.to_string(),
            Failure::Corrupt(reason) => reason,
            Failure::Io(error) => error.to_string(),
            Failure::Sql(error) => error.to_string(),
        }
    }

    /// In words, for the broker at `url`.
    pub(super) fn tell(self, url: &str) -> BrokerError {
        let url = url.to_owned();
        match self {
            Failure::Told(error) => error,
            Failure::Corrupt(reason) => BrokerError::Corrupt { url, reason },
            Failure::Io(error) => BrokerError::Busy {
                url,
                reason: error.to_string(),
            },
            Failure::Sql(error) => tell_sql(url, &error),
        }
    }
}

fn tell_sql(url: String, error: &rusqlite::Error) -> BrokerError {
    let Some(code) = error.sqlite_error_code() else {
        let reason = error.to_string();
        return BrokerError::Corrupt { url, reason };
    };
    let reason = match code {
        ErrorCode::DiskFull => "the disk is full".to_owned(),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "another process keeps it locked".to_owned(),
        ErrorCode::ReadOnly => "it is read-only for this user".to_owned(),
        ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory => error.to_string(),
        ErrorCode::NotADatabase => {
            let reason = "the file is not a database".to_owned();
            return BrokerError::Corrupt { url, reason };
        }
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            return BrokerError::Unreachable {
                url,
                reason: error.to_string(),
                hint: "check that this user may write the file and its directory, and its limit of open files",
            };
        }
        ErrorCode::TooBig => return BrokerError::Refused(format!("{url} refuses the data: {error}")),
        _ => {
            let reason = error.to_string();
            return BrokerError::Corrupt { url, reason };
        }
    };
    BrokerError::Busy { url, reason }
}
