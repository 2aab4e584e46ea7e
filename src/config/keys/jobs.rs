//! The keys of `[tasks.NAME]` and `[schedules.NAME]`: of jobs of one kind.

use super::{Key, Section, Visit, key};
use crate::config::values::{ScheduleConfig, TaskConfig};

impl Section for TaskConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("command", "Program and its arguments, no shell (command)"),
            &mut self.command,
        );
        visit(
            key!("timeout", "Longest run; none: the pool's job_timeout"),
            &mut self.timeout,
        );
        visit(
            key!("retries", "How often a failed job runs again; none: the pool's"),
            &mut self.retries,
        );
        visit(
            key!("environment", "Environment variables to add (command)"),
            &mut self.environment,
        );
        visit(
            key!(
                "directory",
                "Directory to run it in; none: the application's (command)"
            ),
            &mut self.directory,
        );
        visit(
            key!(
                "stdin",
                "What it reads on standard input: the job's data as json, or the raw text or the base64 bytes of a JSON string (command)"
            ),
            &mut self.stdin,
        );
        visit(
            key!(
                "stdout",
                "What its output becomes: auto, text, base64 or file (command)"
            ),
            &mut self.stdout,
        );
        visit(
            key!(
                "output_directory",
                "Directory for output that is kept in files (stdout = \"file\")"
            ),
            &mut self.output_directory,
        );
        visit(
            key!(
                "max_output",
                "Largest output; none: broker.max_result, and no limit for a file (command)"
            ),
            &mut self.max_output,
        );
        visit(
            key!(
                "max_memory",
                "Most address space of each of its processes (command)"
            ),
            &mut self.max_memory,
        );
        visit(
            key!(
                "max_cpu_time",
                "Most processor time of each of its processes, in whole seconds (command)"
            ),
            &mut self.max_cpu_time,
        );
        visit(
            key!(
                "batch_size",
                "Most jobs in one call; 1: no batches; none: what the code says (native, python)"
            ),
            &mut self.batch_size,
        );
        visit(
            key!(
                "batch_linger",
                "Longest wait for a batch to fill; none: what the code says (native, python)"
            ),
            &mut self.batch_linger,
        );
        visit(
            key!(
                "batch_split",
                "Run a failed batch again in halves, down to the job at fault"
            ),
            &mut self.batch_split,
        );
    }
}

impl Section for ScheduleConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(key!("task", "Task to run"), &mut self.task);
        visit(
            key!(
                "args",
                "Its arguments: an array, a table, or JSON in a string; none: \"\""
            ),
            &mut self.args,
        );
        visit(key!("queue", "Queue of its jobs"), &mut self.queue);
        visit(
            key!(
                "cron",
                "Times at which it is due: minute, hour, day of month, month, day of week"
            ),
            &mut self.cron,
        );
        visit(
            key!(
                "every",
                "How often it is due, instead of cron: at each multiple of this time since 1970 in UTC"
            ),
            &mut self.every,
        );
        visit(
            key!("time_zone", "Time zone whose clock cron goes by"),
            &mut self.time_zone,
        );
        visit(
            key!("jitter", "It fires later by a random time up to this one"),
            &mut self.jitter,
        );
        visit(
            key!(
                "catch_up",
                "Due times at which no supervisor ran: none are run, the last or all"
            ),
            &mut self.catch_up,
        );
        visit(
            key!(
                "catch_up_max",
                "Missed due times that are run at the most, the newest (catch_up = \"all\")"
            ),
            &mut self.catch_up_max,
        );
        visit(
            key!(
                "overlap",
                "While its last job has not ended: skip the due time, queue it until then, or allow two jobs"
            ),
            &mut self.overlap,
        );
        visit(
            key!("timeout", "Longest run; none: that of the task or the pool"),
            &mut self.timeout,
        );
        visit(
            key!(
                "retries",
                "How often a failed job runs again; none: as task or pool say"
            ),
            &mut self.retries,
        );
        visit(
            key!(
                "result_ttl",
                "How long its results are kept; none: broker.result_ttl"
            ),
            &mut self.result_ttl,
        );
        visit(
            key!(
                "expires",
                "Its job never runs if it has not begun after so much time; none: it waits for ever"
            ),
            &mut self.expires,
        );
        visit(
            key!(
                "limit",
                "So many jobs of a key run at once, such as db=3; none: any number"
            ),
            &mut self.limit,
        );
    }
}
