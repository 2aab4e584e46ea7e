//! The settings of a simulated supervisor: drawn from the seed, so that every kind of pool occurs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pool::config::{
    AppConfig, BrokerConfig, Config, Isolation, LogConfig, MetricsConfig, PoolConfig, Prefetch, RetryConfig,
    ScalingPolicy, ScalingSettings, SupervisorConfig, TaskConfig,
};
use pool::job::{PoolName, QueueName};
use pool::policy::scaling::demand;

use crate::permits;

/// Names of the pools; each serves the queue of its name.
pub const POOLS: [&str; 2] = ["default", "mail"];

pub fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a valid name")
}

pub fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).expect("a valid name")
}

/// Settings with one pool or both.
pub fn draw(rng: &mut Rng, pools: usize) -> Config {
    let app = app(rng);
    let pools = POOLS[..pools].iter();
    let pools: BTreeMap<PoolName, PoolConfig> = pools
        .map(|name| (pool_name(name), draw_pool(rng, name)))
        .collect();
    Config {
        file: None,
        broker: BrokerConfig::default(),
        socket: PathBuf::from("pool.sock"),
        history: PathBuf::new(),
        app,
        supervisor: SupervisorConfig {
            max_total_workers: (rng.u8(..3) == 0).then(|| floors(&pools) + rng.u32(..5)),
            permits: permits::draw_total(rng, &pools),
            ..SupervisorConfig::default()
        },
        pools,
        tasks: batch_tasks(rng),
        schedules: BTreeMap::new(),
        metrics: MetricsConfig::default(),
        log: LogConfig::default(),
    }
}

/// Workers that the pools are promised together.
fn floors(pools: &BTreeMap<PoolName, PoolConfig>) -> u32 {
    pools.values().map(PoolConfig::floor).sum()
}

/// `row` runs in batches, `mixed` in batches that a rotten job spoils.
fn batch_tasks(rng: &mut Rng) -> BTreeMap<Arc<str>, TaskConfig> {
    let names = ["row", "mixed"].into_iter();
    let task = |rng: &mut Rng| TaskConfig {
        batch_size: Some(rng.u32(1..40)),
        batch_linger: Some(Duration::from_millis(rng.u64(0..200))),
        batch_split: rng.bool(),
        ..TaskConfig::default()
    };
    names.map(|name| (name.into(), task(rng))).collect()
}

/// Other settings for pools that stay, as a reload brings them.
pub fn redraw(rng: &mut Rng, config: &Config) -> Config {
    let pools = if rng.u8(..4) == 0 { 1 } else { POOLS.len() };
    Config {
        app: config.app.clone(),
        ..draw(rng, pools)
    }
}

fn draw_pool(rng: &mut Rng, name: &str) -> PoolConfig {
    let min_workers = rng.u32(0..4);
    let ways = [
        Prefetch::Auto,
        Prefetch::Auto,
        Prefetch::Fixed(0),
        Prefetch::Fixed(3),
    ];
    PoolConfig {
        queues: vec![queue_name(name)],
        min_workers,
        max_workers: min_workers + rng.u32(1..5),
        reserve_workers: rng.u32(..2) * min_workers + rng.u32(..2),
        scaling_period: Duration::from_millis(rng.u64(500..5_000)),
        utilization_window: Duration::from_secs(rng.u64(5..30)),
        scaling: scaling(rng),
        prefetch: ways[rng.usize(..ways.len())],
        max_jobs: (rng.u8(..3) == 0).then(|| rng.u32(1..40)),
        max_age: (rng.u8(..3) == 0).then(|| Duration::from_secs(rng.u64(2..30))),
        max_worker_memory: (rng.u8(..4) == 0).then_some(45 << 20),
        permits: permits::draw(rng),
        spare_workers: rng.u32(1..3),
        // Frozen and endless jobs end by their timeout.
        job_timeout: Some(Duration::from_secs(5)),
        kill_grace: Duration::from_secs(1),
        stop_timeout: Duration::from_secs(rng.u64(0..8)),
        retry: RetryConfig {
            retries: rng.u32(0..3),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(5),
            max_worker_losses: 3,
        },
        ..PoolConfig::default()
    }
}

fn scaling(rng: &mut Rng) -> ScalingSettings {
    let policies = [ScalingPolicy::Utilization, ScalingPolicy::Demand];
    ScalingSettings {
        policy: policies[rng.usize(..policies.len())],
        demand: demand::Settings {
            target_wait: Duration::from_millis(rng.u64(0..1_000)),
        },
        ..ScalingSettings::default()
    }
}

fn app(rng: &mut Rng) -> AppConfig {
    let fresh = rng.u8(..4) == 0;
    AppConfig {
        isolation: if fresh { Isolation::Fresh } else { Isolation::Warm },
        load_timeout: Duration::from_secs(10),
        ..AppConfig::default()
    }
}
