//! What the task of a source hears of its calls to the broker.

use crate::broker::source::{Late, StopHow};
use crate::broker::{BrokerError, Maintained};
use crate::job::{Claim, Claimed, PoolName, Settlement, Token};

/// What may fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Take,
    Settle,
    Renew,
    Wait,
    Begin,
    Progress,
    Watch,
}

impl Kind {
    pub fn doing(self) -> &'static str {
        match self {
            Kind::Take => "claim jobs",
            Kind::Settle => "settle outcomes",
            Kind::Renew => "renew the lease",
            Kind::Wait => "wait for jobs",
            Kind::Begin => "note which jobs have begun",
            Kind::Progress => "note how far jobs are",
            Kind::Watch => "hear of jobs that are canceled",
        }
    }
}

/// What the broker says.
#[derive(Debug)]
pub(super) enum Answer {
    Claimed {
        pool: PoolName,
        wanted: usize,
        result: Result<Vec<Claimed>, BrokerError>,
    },
    Ready {
        pool: PoolName,
        result: Result<(), BrokerError>,
    },
    Settled {
        sent: Vec<Outcome>,
        result: Result<Vec<Option<Late>>, BrokerError>,
    },
    Noted {
        tokens: Vec<Token>,
        result: Result<(), BrokerError>,
    },
    Told(Result<(), BrokerError>),
    CalledOff {
        watch: u64,
        result: Result<Vec<(Token, StopHow)>, BrokerError>,
    },
    Renewed(Result<(), BrokerError>),
    Maintained(Result<Maintained, BrokerError>),
}

/// A settlement in the broker's own words.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub settlement: Settlement<Claim>,
    /// What the supervisor knows it by. `None`: it never knew of it.
    pub token: Option<Token>,
}
