//! Rules of what feeds a supervisor: one list, over every broker, whether it is asked for jobs or pushes them.
//!
//! What a broker has no notion of stands in [`HAS_NOT`], with the reason.

mod asked;
mod begins;
mod demand;
mod failures;
mod fed;
mod losses;
mod odd;
mod refusals;
pub mod store;

use super::amqp::Amqp;
use super::kit::Kit;
use super::push::Server;

/// Stores, the reason, and the rules that are about nothing they have.
const HAS_NOT: &[(&[&str], &str, &[&str])] = &[
    (
        &["memory", "sqlite"],
        "there is no server: what is called returns",
        &[
            "an_unanswered_outcome_is_taken_once",
            "outcomes_outlive_the_server",
            "a_server_that_is_away_is_unreachable",
        ],
    ),
    (
        &["memory", "sqlite", "redis", "celery"],
        "a job is held by a lease, which ends with no connection",
        &[
            "what_was_delivered_on_a_lost_channel_comes_again",
            "a_lost_channel_recalls_the_unbegun",
            "a_copy_of_what_runs_waits_for_it",
            "a_job_is_in_one_hand_whenever_channels_break",
        ],
    ),
    (
        &["memory", "sqlite", "redis"],
        "a job is out of its queue from its claim on: there is no acknowledgement",
        &["an_early_ack_comes_with_the_begin"],
    ),
    (
        &["memory"],
        "a job is a value of this process: nothing is read",
        &["the_unreadable_fails_with_a_reason"],
    ),
    (
        &["memory", "sqlite", "push"],
        "its jobs end at the broker: no code of the application has to do the rest",
        &["after_work_fails_in_the_end", "empty_waits_for_after_work"],
    ),
    (
        &["celery"],
        "the tasks of this suite are acknowledged late; `celery_messages.rs` has others",
        &["an_early_ack_comes_with_the_begin"],
    ),
    (
        &["celery"],
        "tasks are revoked by Celery's own commands",
        &["a_canceled_job_neither_begins_nor_returns"],
    ),
    (
        &["celery"],
        "nobody looks for an id, and a message is gone only when somebody acknowledged it",
        &["refusals_are_typed", "late_and_gone_differ"],
    ),
    (
        &["amqp"],
        "the server chooses among its consumers: who asks for an order has it among those that have come",
        &["each_order_holds_in_one_take"],
    ),
    (
        &["amqp"],
        "a server tells nobody that something waits: it hands it over, and there is no room for it",
        &["a_pool_without_room_hears_that_more_came"],
    ),
    (
        &["amqp"],
        "an acknowledgement has no answer that could refuse it",
        &["refused_writes_back_off"],
    ),
    (
        &["amqp"],
        "tasks are revoked by Celery's own commands",
        &["a_canceled_job_neither_begins_nor_returns"],
    ),
    (
        &["amqp"],
        "nobody looks for an id, and a message is gone only when somebody acknowledged it",
        &["refusals_are_typed", "late_and_gone_differ"],
    ),
    (
        &["push", "amqp"],
        "the channel is the lease: nothing renews it",
        &["a_source_renews_while_it_holds_something"],
    ),
    (
        &["push"],
        "an acknowledgement has no answer that could refuse it",
        &["refused_writes_back_off"],
    ),
    (
        &["push"],
        "the server says nothing of a message whose channel is lost",
        &["late_and_gone_differ"],
    ),
];

/// Whether this rule is about nothing that this store has.
fn has_not(store: &str, rule: &str) -> bool {
    let tells = |(stores, _, rules): &(&[&str], _, &[&str])| stores.contains(&store) && rules.contains(&rule);
    HAS_NOT.iter().any(tells)
}

/// Runs each rule over each of these stores.
macro_rules! stores {
    ($($store:ident: $make:expr,)*) => {
        /// Their names.
        const STORES: &[&str] = &[$(stringify!($store)),*];
        stores! { @all [$(($store, $make))*] [
            demand::what_waits_comes_at_once
            demand::a_later_job_comes_by_itself
            demand::no_more_than_the_credit_comes
            demand::credit_said_twice_counts_once
            demand::a_lower_credit_takes_nothing_more
            demand::without_credit_nothing_is_held
            demand::two_pools_share_a_queue
            demand::each_order_holds_in_one_take
            demand::other_queues_replace_the_first
            demand::a_pool_without_workers_is_told_once
            demand::a_pool_without_room_hears_that_more_came
            demand::empty_follows_the_last_settlement
            demand::what_is_given_back_comes_again_in_its_order
            demand::a_paused_pool_holds_nothing
            demand::a_token_is_never_used_twice
            demand::closing_gives_back
            demand::empty_waits_for_after_work
            demand::a_canceled_job_neither_begins_nor_returns
            begins::what_was_delivered_on_a_lost_channel_comes_again
            begins::an_early_ack_comes_with_the_begin
            begins::a_lost_channel_recalls_the_unbegun
            begins::a_copy_of_what_runs_waits_for_it
            begins::a_job_is_in_one_hand_whenever_channels_break
            losses::an_unanswered_outcome_is_taken_once
            losses::outcomes_outlive_the_server
            losses::jobs_of_a_dead_source_come_back
            losses::late_and_gone_differ
            asked::idle_asks_nothing
            asked::refused_writes_back_off
            asked::a_source_renews_while_it_holds_something
            failures::the_unreadable_fails_with_a_reason
            failures::after_work_fails_in_the_end
            refusals::refusals_are_typed
            refusals::a_server_that_is_away_is_unreachable
        ] }
    };
    (@all [$($store:tt)*] [$($of:ident::$rule:ident)*]) => {
        /// Their names.
        const RULES: &[&str] = &[$(stringify!($rule)),*];
        stores! { @each [$($store)*] [$($of::$rule)*] }
    };
    (@each [$($store:tt)*] $rules:tt) => { $(stores! { @one $store $rules })* };
    (@one ($store:ident, $make:expr) [$($of:ident::$rule:ident)*]) => {
        mod $store {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                if !has_not(stringify!($store), stringify!($rule)) {
                    super::$of::$rule(&$make).await;
                }
            })*
        }
    };
}

stores! {
    memory: Kit::memory(),
    sqlite: Kit::sqlite(),
    redis: Kit::redis(),
    celery: Kit::celery(),
    amqp: Amqp::default(),
    push: Server::default(),
}

#[test]
fn what_a_broker_has_not_is_a_rule_and_has_a_reason() {
    for (stores, reason, rules) in HAS_NOT {
        assert!(!reason.is_empty(), "{rules:?}");
        for store in *stores {
            assert!(STORES.contains(store), "{store}");
        }
        for rule in *rules {
            assert!(RULES.contains(rule), "`{rule}` ({reason}) is no rule");
        }
    }
}
