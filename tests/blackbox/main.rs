//! The real binary, from outside: real processes, real kills, a ledger of job ids.

mod batches;
mod cancel;
mod commands;
mod control_group;
mod death;
mod demand;
mod fairness;
mod faults;
mod flow;
mod hang;
mod harness;
mod health;
mod history;
mod lifecycle;
mod measure;
mod metrics;
mod output;
mod processors;
#[path = "../support/program.rs"]
mod program;
mod reload;
mod routing;
mod schedules;
mod stop;
mod throughput;
