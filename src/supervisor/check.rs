//! Does the app load? Starts a template as a generation would, listens to it, and ends it.

use tokio::sync::mpsc;

use super::input::Input;
use super::memory;
use super::template::Template;
use crate::config::Config;
use crate::fleet::template::ended_unready;
use crate::runtime::{self, executor::unknown_task};
use crate::sys::memory::smaps_rollup;
use crate::time::Human;
use crate::wire::message::{FromTemplate, LoadReport};

/// What a template found, and what it occupies.
#[derive(Debug)]
pub struct Loaded {
    /// What it found.
    pub report: LoadReport,
    /// PSS of the template in bytes; `None` where the kernel does not say.
    pub pss_bytes: Option<u64>,
}

/// `supervisor.max_total_memory` in bytes on this host; `None`: no limit.
pub fn total_memory(config: &Config) -> Option<u64> {
    config.supervisor.max_total_memory.and_then(memory::resolve)
}

/// The schedules whose jobs the pools of this configuration run, by name, each with its task. Jobs of other queues are for
/// other applications, which may know tasks that this one does not.
fn scheduled_here(config: &Config) -> impl Iterator<Item = (&str, &str)> {
    let schedules = config.schedules.iter();
    let run_here = schedules.filter(|(_, schedule)| {
        let mut pools = config.pools.values();
        pools.any(|pool| pool.queues.contains(&schedule.queue))
    });
    run_here.map(|(name, schedule)| (&**name, schedule.task.as_str()))
}

/// The schedules whose jobs the pools here could not run, as far as the application says: each with the reason.
pub fn unknown_scheduled(config: &Config, report: &LoadReport) -> Vec<String> {
    let unknown = |(schedule, task): (&str, &str)| {
        let reason = match report.unknown_tasks.get(task) {
            Some(reason) => reason.clone(),
            // One that finds its tasks late names none.
            None if report.tasks.is_empty() || report.tasks.iter().any(|known| known == task) => return None,
            None => unknown_task(task, &report.tasks).message,
        };
        Some(format!("{schedule}: {reason}"))
    };
    scheduled_here(config).filter_map(unknown).collect()
}

/// Loads the app in a template of its own, without forking a worker, and returns what the template found.
///
/// `printed` gets each line that the app prints meanwhile. Must be called inside a tokio runtime. The error says
/// why the app does not load, with its traceback if there is one.
pub async fn load_app(config: &Config, mut printed: impl FnMut(&str)) -> Result<Loaded, String> {
    let (command, mut load) = runtime::template_command(config, 1).map_err(|error| error.to_string())?;
    // A worker imports them with the first job that names them, which is too late to learn that it can't.
    load.import_modules = true;
    load.find_tasks = scheduled_here(config).map(|(_, task)| task.to_owned()).collect();
    let (inputs, mut from_template) = mpsc::unbounded_channel();
    let template = Template::start(0, &command, load, &inputs)?;
    let answer = async {
        while let Some(input) = from_template.recv().await {
            match input {
                Input::Printed(output) => {
                    output.lines.iter().for_each(|(_, line)| printed(line));
                    if output.left_out.lines > 0 {
                        printed(&format!("({} more lines)", output.left_out.lines));
                    }
                }
                Input::TemplateExited { how, .. } => {
                    return Err(ended_unready(config.app.program.as_deref(), &how));
                }
                Input::Template { message, .. } => match *message {
                    FromTemplate::Ready(report) => return Ok(*report),
                    FromTemplate::Failed { error, detail } if detail.is_empty() => return Err(error),
                    FromTemplate::Failed { error, detail } => return Err(format!("{error}\n{detail}")),
                    _ => {}
                },
                _ => {}
            }
        }
        Err("the template is gone".to_owned())
    };
    let answer = tokio::time::timeout(config.app.load_timeout, answer).await;
    let pss_bytes = smaps_rollup(template.pid()).map(|memory| memory.pss);
    template.kill();
    let report = answer.unwrap_or_else(|_| {
        let limit = Human(config.app.load_timeout);
        Err(format!(
            "it is not ready after {limit}, which is `app.load_timeout`"
        ))
    })?;
    Ok(Loaded { report, pss_bytes })
}
