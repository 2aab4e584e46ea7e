//! What every protocol over Redis needs, whatever its keys are: this folder knows no key but those it is told.
//!
//! - [`options`]: where the server is; [`endpoint`], [`connection`], [`version`]: how it is reached, whether it is new enough; [`cluster`]: whether it has all keys;
//! - [`wake_up`], [`tracking`], [`subscription`]: hearing that something happened, without asking again and again;
//! - [`sorted_set`]: going through one; [`unanswered`]: claims whose answer never came.

pub(in crate::broker) mod cluster;
pub(in crate::broker) mod connection;
pub(in crate::broker) mod endpoint;
pub mod options;
pub(in crate::broker) mod sorted_set;
pub(in crate::broker) mod subscription;
pub(in crate::broker) mod tracking;
pub(in crate::broker) mod unanswered;
pub(in crate::broker) mod version;
pub(in crate::broker) mod wake_up;
