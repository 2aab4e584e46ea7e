//! What a broker promises. `sources.rs` holds the rules of what feeds a supervisor: they run over every broker, and over
//! one that pushes. The other rules ask a broker for jobs, and run against each that is asked; where the schema of RQ's jobs in Redis or the
//! one of Celery's tasks has it otherwise, `rq.rs` and `celery.rs` say what, why, and what holds in its place. What only the embedded broker
//! promises is in `embedded.rs`, and `model.rs` compares it with the one in memory.

mod amqp;
mod celery;
mod celery_cancel;
mod celery_leases;
mod celery_messages;
mod celery_stock;
mod control;
mod counting;
mod dead;
mod embedded;
mod expiry;
mod fanout;
mod flow;
mod kit;
mod leases;
mod limits;
mod model;
mod push;
mod queues;
mod rq;
mod schedules;
mod search;
mod settling;
mod sources;
mod upgrade;
mod waiting;

/// Runs rules against every broker: `rule` becomes the tests `memory::rule`, `sqlite::rule`, `redis::rule` and
/// `celery::rule`.
macro_rules! rules {
    ($($rule:ident,)*) => {
        /// Their names.
        pub const RULES: &[&str] = &[$(stringify!($rule)),*];
        mod memory {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&crate::broker::kit::Kit::memory()).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&crate::broker::kit::Kit::sqlite()).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $rule() {
                let kit = crate::broker::kit::Kit::redis();
                if !crate::broker::rq::holds_otherwise(stringify!($rule), &kit).await {
                    super::$rule(&kit).await;
                }
            })*
        }
        mod celery {
            $(#[tokio::test]
            async fn $rule() {
                let kit = crate::broker::kit::Kit::celery();
                if !crate::broker::celery::holds_otherwise(stringify!($rule), &kit).await {
                    super::$rule(&kit).await;
                }
            })*
        }
    };
}
use rules;
