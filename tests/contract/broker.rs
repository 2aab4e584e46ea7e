//! What a broker promises. Each rule below runs against each implementation; what only the
//! embedded broker promises is in `embedded.rs`, and `model.rs` compares it with the one in memory.

mod counting;
mod dead;
mod embedded;
mod fanout;
mod flow;
mod kit;
mod leases;
mod model;
mod queues;
mod settling;
mod upgrade;
mod waiting;

/// Runs rules against every broker: `rule` becomes the tests `memory::rule` and `sqlite::rule`.
macro_rules! rules {
    ($($rule:ident,)*) => {
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
    };
}
use rules;
