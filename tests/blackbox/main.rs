//! The real binary, from outside: real processes, real kills, a ledger of job ids.

mod batches;
mod cancel;
mod commands;
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
mod reload;
mod routing;
mod schedules;
mod stop;
