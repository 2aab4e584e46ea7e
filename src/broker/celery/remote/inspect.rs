//! What `celery inspect` asks. Source: `celery/worker/control.py`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Answer;
use super::about::About;
use super::request::Request;
use crate::broker::Picture;
use crate::time::Unix;

/// A task in hand.
#[derive(Debug)]
pub(in crate::broker::celery) struct Shown {
    pub id: String,
    /// `active`, `reserved` or `scheduled`.
    pub state: &'static str,
    pub info: Value,
    /// When it is due.
    pub eta: Value,
}

/// All that is known at one moment.
#[derive(Debug)]
pub(in crate::broker::celery) struct View {
    pub about: Arc<About>,
    pub picture: Picture,
    pub tasks: Vec<Shown>,
    /// How many are in hand, those that wait for their time among them.
    pub held: usize,
    /// Tasks that began, by name.
    pub totals: BTreeMap<String, u64>,
    pub clock: i64,
}

/// Commands that need a [`View`]. Source: `@inspect_command(alias=…)`.
pub(in crate::broker::celery) fn looks(request: &Request) -> bool {
    matches!(
        request.method.as_str(),
        "active"
            | "dump_active"
            | "reserved"
            | "dump_reserved"
            | "scheduled"
            | "dump_schedule"
            | "query_task"
            | "stats"
            | "active_queues"
    )
}

/// Whether tasks in this state are asked for, of those that wait at the server.
pub(in crate::broker::celery) fn shows(request: &Request, state: &str) -> bool {
    match request.method.as_str() {
        "query_task" => true,
        "scheduled" | "dump_schedule" => state == "scheduled",
        "reserved" | "dump_reserved" => state == "reserved",
        _ => false,
    }
}

/// The answers that are made of what the application says of itself alone; `None`: it is another command.
pub(super) fn of_application(request: &Request, about: &About) -> Option<Answer> {
    Some(match request.method.as_str() {
        "report" => Ok(about.report.clone()),
        "conf" | "dump_conf" => Ok(match request.is_true("with_defaults") {
            true => about.conf_with_defaults.clone(),
            false => about.conf.clone(),
        }),
        "registered" | "dump_tasks" => registered(request, about),
        _ => return None,
    })
}

/// Whether it asks for attributes of tasks which only the application can tell.
pub(super) fn wants_attributes(request: &Request) -> bool {
    let items = request.arguments.get("taskinfoitems").and_then(Value::as_array);
    matches!(&*request.method, "registered" | "dump_tasks") && items.is_some_and(|items| !items.is_empty())
}

fn registered(request: &Request, about: &About) -> Answer {
    let builtins = request.is_true("builtins");
    let all = about.registered.iter();
    let all = all.filter(|(name, _)| builtins || !name.starts_with("celery."));
    Ok(all.map(|(_, shown)| shown.clone()).collect())
}

impl View {
    /// Answers a command that [`looks`].
    pub fn answer(&self, request: &Request) -> Answer {
        Ok(match request.method.as_str() {
            "active" | "dump_active" => self.in_state("active"),
            "reserved" | "dump_reserved" => self.in_state("reserved"),
            "scheduled" | "dump_schedule" => {
                let scheduled = self.tasks.iter().filter(|task| task.state == "scheduled");
                // The priority is the timer's.
                let shown = |task: &Shown| json!({"eta": task.eta, "priority": 6, "request": task.info});
                scheduled.map(shown).collect()
            }
            "query_task" => self.query(&request.texts("ids")?),
            "active_queues" => self.queues(),
            _ => self.stats(),
        })
    }

    fn in_state(&self, state: &str) -> Value {
        let tasks = self.tasks.iter().filter(|task| task.state == state);
        tasks.map(|task| task.info.clone()).collect()
    }

    fn query(&self, ids: &[String]) -> Value {
        let asked = self.tasks.iter().filter(|task| ids.contains(&task.id));
        let answer = asked.map(|task| (task.id.clone(), json!([task.state, task.info])));
        Value::Object(answer.collect())
    }

    fn queues(&self) -> Value {
        let mut served: Vec<&str> = Vec::new();
        for queue in self.picture.pools.iter().flat_map(|pool| &pool.queues) {
            if !served.contains(&queue.as_str()) {
                served.push(queue.as_str());
            }
        }
        let shown = |name: &&str| {
            let known = self.about.queues.get(*name).cloned();
            known.unwrap_or_else(|| json!({"name": name, "routing_key": name}))
        };
        served.iter().map(shown).collect()
    }

    /// Source: `WorkController.stats`.
    fn stats(&self) -> Value {
        let Picture {
            workers,
            pools,
            started,
        } = &self.picture;
        let sum = |of: fn(&crate::broker::PoolView) -> u32| pools.iter().map(of).sum::<u32>();
        let (min, max) = (sum(|pool| pool.min), sum(|pool| pool.max));
        let processes: Vec<i32> = workers.iter().map(|worker| worker.pid).collect();
        let tasks_max = pools.iter().find_map(|pool| pool.jobs_max);
        let mut stats = json!({
            "total": self.totals,
            "pid": std::process::id(),
            "clock": self.clock.to_string(),
            "uptime": Unix::now().since(*started).as_secs(),
            "pool": {
                "implementation": "celery.concurrency.prefork:TaskPool",
                "max-concurrency": max,
                "processes": processes,
                "max-tasks-per-child": tasks_max.map_or_else(|| json!("N/A"), Value::from),
                "put-guarded-by-semaphore": false,
                "timeouts": self.about.timeouts,
                "writes": "N/A",
            },
            "broker": self.about.broker,
            "prefetch_count": self.held,
            "rusage": rusage(),
        });
        if min != max {
            let held = self.tasks.iter().filter(|task| task.state != "scheduled").count();
            stats["autoscaler"] = json!({"max": max, "min": min, "current": processes.len(), "qty": held});
        }
        stats
    }
}

/// What this process used. Source: `WorkController.rusage`.
fn rusage() -> Value {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) else {
        return json!("N/A");
    };
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let mut shown = Map::new();
    shown.insert("utime".into(), json!(seconds(used.user_time())));
    shown.insert("stime".into(), json!(seconds(used.system_time())));
    for (name, value) in [
        ("maxrss", used.max_rss()),
        ("ixrss", used.shared_integral()),
        ("idrss", used.unshared_data_integral()),
        ("isrss", used.unshared_stack_integral()),
        ("minflt", used.minor_page_faults()),
        ("majflt", used.major_page_faults()),
        ("nswap", used.full_swaps()),
        ("inblock", used.block_reads()),
        ("oublock", used.block_writes()),
        ("msgsnd", used.ipc_sends()),
        ("msgrcv", used.ipc_receives()),
        ("nsignals", used.signals()),
        ("nvcsw", used.voluntary_context_switches()),
        ("nivcsw", used.involuntary_context_switches()),
    ] {
        shown.insert(name.into(), json!(value));
    }
    Value::Object(shown)
}
