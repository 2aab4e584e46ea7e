//! The settings that are compared: several files, and values of a sweep.

use std::path::PathBuf;
use std::str::FromStr;

use crate::config::{self, Config, RunArgs};
use crate::job::PoolName;
use crate::sim::load::Load;

use super::super::report::{Code, Failure};
use super::{SimulateArgs, usage};

/// Most variants of one command: what a table shows and a picture holds.
const VARIANTS_MAX: usize = 200;

/// One choice of settings.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// What tells it from the others.
    pub name: String,
    /// The settings, with the one pool that is simulated.
    pub config: Config,
    /// That pool.
    pub pool: PoolName,
}

impl Variant {
    /// Whether its pool serves the queues that the load names.
    pub fn check_queues(&self, load: &Load) -> Result<(), Failure> {
        let served = &self.config.pools[&self.pool].queues;
        let mut named = load.kinds.iter().filter_map(|kind| kind.queue.as_ref());
        match named.find(|queue| !served.contains(queue)) {
            Some(queue) => Err(usage(format!(
                "jobs wait in queue `{queue}`, which pool `{}` does not serve",
                self.pool
            ))
            .hint(format!(
                "serve it with --queue {queue}, or choose another pool with --pool NAME"
            ))),
            None => Ok(()),
        }
    }
}

/// A key and the values that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    key: String,
    values: Vec<String>,
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, values) = text
            .split_once('=')
            .filter(|(key, values)| !key.is_empty() && !values.is_empty())
            .ok_or(
                "expected a key and values such as `utilization_threshold=0.3..0.9` or `max_workers=4,8,16`",
            )?;
        let values = match values.split_once("..") {
            Some((from, rest)) => range(from, rest)?,
            None => values.split(',').map(|value| value.trim().to_owned()).collect(),
        };
        Ok(Sweep {
            key: key.trim().to_owned(),
            values,
        })
    }
}

/// `0.3..0.9` in steps of 0.1, one in the last digit of the first number; `2..20:2` in steps of 2.
fn range(from: &str, rest: &str) -> Result<Vec<String>, String> {
    let (to, step) = rest.split_once(':').unwrap_or((rest, ""));
    let decimals = |text: &str| text.split_once('.').map_or(0, |(_, digits)| digits.len());
    let digits = [from, to, step]
        .map(decimals)
        .into_iter()
        .max()
        .unwrap_or(0)
        .min(9);
    let number = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| format!("`{text}` is no number; list other values as in `KEY=5s,10s,30s`"))
    };
    let scale = 10_f64.powi(i32::try_from(digits).unwrap_or(0));
    let scaled = |text: &str| number(text).map(|number| (number * scale).round());
    let step = if step.is_empty() {
        10_f64.powi(i32::try_from(digits - decimals(from).max(decimals(to)).min(digits)).unwrap_or(0))
    } else {
        scaled(step)?
    };
    let (from, to) = (scaled(from)?, scaled(to)?);
    let count = (to - from) / step;
    if !(0.0..VARIANTS_MAX as f64).contains(&count) || step <= 0.0 {
        return Err(format!(
            "expected a range upwards of at most {VARIANTS_MAX} values; name a larger step as in `2..200:10`"
        ));
    }
    let values = (0..=count as u32).map(|at| (from + f64::from(at) * step) / scale);
    Ok(values.map(|value| format!("{value:.digits$}")).collect())
}

/// All variants: each file with each value of each sweep.
pub(super) fn all(args: &SimulateArgs) -> Result<Vec<Variant>, Failure> {
    let files: Vec<Option<PathBuf>> = match args.config.as_slice() {
        [] => vec![None],
        files => files.iter().cloned().map(Some).collect(),
    };
    let keys = || args.sweep.iter().map(|sweep| sweep.key.replace('-', "_"));
    if let Some(twice) = keys()
        .enumerate()
        .find(|(at, key)| keys().take(*at).any(|known| known == *key))
    {
        return Err(usage(format!("--sweep: `{}` is swept twice", twice.1)));
    }
    let mut choices = Vec::new();
    for file in files {
        let name = file.as_ref().filter(|_| args.config.len() > 1);
        let names = name.map(|file| file.display().to_string()).into_iter().collect();
        let mut of_file: Vec<(Vec<String>, RunArgs)> = vec![(names, args.settings.with_config(file))];
        for sweep in &args.sweep {
            of_file = swept(of_file, sweep)?;
        }
        choices.extend(of_file);
    }
    if choices.len() > VARIANTS_MAX {
        let count = choices.len();
        return Err(usage(format!(
            "{count} variants, above the limit of {VARIANTS_MAX}"
        )));
    }
    let variant = |(names, run): (Vec<String>, RunArgs)| variant(&names, &run, args);
    choices.into_iter().map(variant).collect()
}

/// Each of these with each value of the sweep.
fn swept(
    choices: Vec<(Vec<String>, RunArgs)>,
    sweep: &Sweep,
) -> Result<Vec<(Vec<String>, RunArgs)>, Failure> {
    let mut more = Vec::new();
    for (names, run) in choices {
        for value in &sweep.values {
            let with = run.clone().and_key(&sweep.key, value).map_err(|meant| {
                let failure = usage(format!("--sweep: a pool has no setting `{}`", sweep.key));
                match meant {
                    Some(meant) if meant == sweep.key.replace('-', "_") => usage(format!(
                        "--sweep: `{meant}` is a list or a table, and no single value"
                    ))
                    .hint("write a file for each, and compare them: --config a.toml --config b.toml"),
                    Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
                    None => failure.hint("`pool run --help` lists the settings of a pool"),
                }
            })?;
            let name = format!("{}={value}", sweep.key);
            more.push(([names.as_slice(), &[name]].concat(), with));
        }
    }
    Ok(more)
}

fn variant(names: &[String], run: &RunArgs, args: &SimulateArgs) -> Result<Variant, Failure> {
    let mut config = config::load(run, |name| std::env::var_os(name))
        .map_err(|errors| Failure::new(Code::Usage, errors.to_string()))?;
    let pools: Vec<&str> = config.pools.keys().map(PoolName::as_str).collect();
    let pool = match (&args.pool, pools.as_slice()) {
        (Some(name), _) => config.pools.keys().find(|pool| pool.as_str() == name),
        (None, [_]) => config.pools.keys().next(),
        (None, _) => {
            return Err(usage("the file has several pools").hint(format!(
                "choose the one that the load comes to with --pool: {}",
                pools.join(", ")
            )));
        }
    };
    let Some(pool) = pool.cloned() else {
        let name = args.pool.as_deref().unwrap_or_default();
        return Err(
            usage(format!("there is no pool `{name}`")).hint(format!("there are: {}", pools.join(", ")))
        );
    };
    config.pools.retain(|name, _| *name == pool);
    let name = if names.is_empty() {
        pool.to_string()
    } else {
        names.join(" ")
    };
    Ok(Variant { name, config, pool })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        text.parse::<Sweep>().unwrap().values
    }

    #[test]
    fn a_range_has_a_step_of_one_in_its_last_digit_or_the_one_that_is_named() {
        assert_eq!(values("t=0.3..0.6"), ["0.3", "0.4", "0.5", "0.6"]);
        assert_eq!(values("t=2..5"), ["2", "3", "4", "5"]);
        assert_eq!(values("t=2..9:3"), ["2", "5", "8"]);
        assert_eq!(values("t=0.5..1:0.25"), ["0.50", "0.75", "1.00"]);
        assert_eq!(values("t=1..2:0.5"), ["1.0", "1.5", "2.0"]);
        assert_eq!(values("t=5s,10s"), ["5s", "10s"]);
    }

    #[test]
    fn what_is_no_sweep_is_refused() {
        for text in [
            "",
            "t",
            "t=",
            "=1..2",
            "t=9..2",
            "t=1..1000",
            "t=a..b",
            "t=1..2:0",
        ] {
            assert!(text.parse::<Sweep>().is_err(), "{text}");
        }
    }
}
