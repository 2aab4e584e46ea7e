//! `pool scale`, `pause`, `resume`, `reload`, `drain`, `stop`: ask the supervisor, print what it answers.

use clap::ArgGroup;

use crate::config::ClientArgs;
use crate::control::Request;
use crate::job::PoolName;

use super::client;
use super::report::{Outcome, print};

/// Change the limits of a pool, until the next reload
#[derive(clap::Args, Clone, Debug)]
#[command(group = ArgGroup::new("limits").required(true).multiple(true))]
#[command(after_help = "\
Examples:
  pool scale --max 8
  pool scale --pool mail --min 1 --max 4")]
pub struct ScaleArgs {
    /// Which pool; needed if there are several
    #[arg(long, value_name = "NAME")]
    pool: Option<PoolName>,
    /// Fewest workers
    #[arg(long, value_name = "N", group = "limits", allow_negative_numbers = true)]
    min: Option<u32>,
    /// Most workers
    #[arg(long, value_name = "N", group = "limits", allow_negative_numbers = true)]
    max: Option<u32>,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// One pool, or all
#[derive(clap::Args, Clone, Debug)]
pub struct PoolArgs {
    /// Which pool; all if none is named
    #[arg(long, value_name = "NAME")]
    pool: Option<PoolName>,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// The whole supervisor
#[derive(clap::Args, Clone, Debug)]
pub struct SupervisorArgs {
    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Stop the supervisor: running jobs get `stop_timeout`, then go back to their queue
#[derive(clap::Args, Clone, Debug)]
pub struct StopArgs {
    /// Give running jobs no time at all
    #[arg(long)]
    now: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// `pool scale`
pub fn scale(args: ScaleArgs) -> Outcome {
    let pool = args.pool.map(|pool| pool.to_string());
    ask(
        &args.client,
        Request::Scale {
            pool,
            min: args.min,
            max: args.max,
        },
        true,
    )
}

/// `pool pause`
pub fn pause(args: PoolArgs) -> Outcome {
    let pool = args.pool.map(|pool| pool.to_string());
    ask(&args.client, Request::Pause { pool }, true)
}

/// `pool resume`
pub fn resume(args: PoolArgs) -> Outcome {
    let pool = args.pool.map(|pool| pool.to_string());
    ask(&args.client, Request::Resume { pool }, true)
}

/// `pool reload`
pub fn reload(args: &SupervisorArgs) -> Outcome {
    ask(&args.client, Request::Reload, false)
}

/// `pool drain`
pub fn drain(args: &SupervisorArgs) -> Outcome {
    ask(&args.client, Request::Drain, false)
}

/// `pool stop`
pub fn stop(args: &StopArgs) -> Outcome {
    ask(&args.client, Request::Stop { now: args.now }, false)
}

fn ask(client: &ClientArgs, request: Request, is_quick: bool) -> Outcome {
    let message = client::command(client, request, is_quick)?;
    print(&format!("{}\n", message.trim_end()))
}
