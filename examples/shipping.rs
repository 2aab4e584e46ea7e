//! A pool of one's own: two typed tasks over a table that is loaded once.
//!
//! ```sh
//! cargo run --example shipping -- --max-workers 4
//! cargo run --example shipping -- enqueue quote '{"country": "IS", "grams": 750}' --wait
//! cargo run --example shipping -- enqueue track '{"parcel": "A7"}' --retries 5 --wait
//! ```

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use pool::{App, Context, TaskError, TaskResult};
use serde::{Deserialize, Serialize};

/// What is loaded before the first fork, and shared by all workers: prices in cents a started kilogram.
pub struct Rates(HashMap<&'static str, u64>);

fn load_rates() -> TaskResult<Rates> {
    // A real program reads a file or a model here. An error keeps the pool from starting, with its message.
    Ok(Rates(HashMap::from([("DE", 490), ("FR", 990), ("IS", 1890)])))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quote {
    country: String,
    grams: u64,
}

#[derive(Serialize)]
struct Price {
    cents: u64,
}

fn quote(parcel: Quote, ctx: &Context<Rates>) -> TaskResult<Price> {
    let rates = &ctx.state().0;
    let Some(rate) = rates.get(&*parcel.country) else {
        let message = format!("no parcels are sent to {:?}", parcel.country);
        return Err(TaskError::rejected(message)); // another run can't help
    };
    let cents = rate * parcel.grams.div_ceil(1000).max(1);
    Ok(Price { cents })
}

#[derive(Deserialize)]
struct Track {
    parcel: String,
}

fn track(args: Track, ctx: &Context<Rates>) -> TaskResult<String> {
    println!("looking for {} (attempt {})", args.parcel, ctx.attempt()); // goes to the log
    if ctx.attempt() < 3 {
        let soon = Duration::from_secs(2);
        return Err(TaskError::retry_after(soon, "the carrier has not scanned it yet"));
    }
    Ok(format!("{} is on its way", args.parcel))
}

/// Tasks, and what they share.
pub fn app() -> App<Rates> {
    App::new()
        .state(load_rates)
        .task("quote", quote)
        .task("track", track)
        .after_fork(|rates| {
            println!("a worker with {} rates is ready", rates.0.len());
            Ok(())
        })
}

fn main() -> ExitCode {
    app().main()
}
