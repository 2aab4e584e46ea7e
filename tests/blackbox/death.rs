//! How a worker died: in the log, the metrics and the job's record.

use crate::control_group::ControlGroup;
use crate::harness::Pool;

#[test]
fn the_record_of_a_job_says_how_its_worker_died() {
    let pool = Pool::start("[defaults]\nmax_worker_losses = 1\n");
    let ids = pool.enqueue(&["app.die", "[]"]);
    let death = pool.wait(&ids)[0]["error"]["death"].clone();
    assert_eq!(death["signal"], "SIGKILL", "{death}\n{}", pool.log());
    assert!(death["peak_memory"].as_u64() > Some(1 << 20), "{death}");
    assert!(death.get("out_of_memory").is_none(), "{death}");
    pool.wait_log("peak_mib=");
}

#[test]
fn a_job_for_which_there_was_no_memory_says_so() {
    let Some(group) = ControlGroup::with_memory(192 << 20) else {
        eprintln!("skipped: this user may not make control groups");
        return;
    };
    let settings = "[defaults]\nmin_workers = 1\nmax_workers = 1\nmax_worker_losses = 1\n";
    let pool = Pool::start_within(&group.members(), settings);
    let ids = pool.enqueue(&["app.keep", "[512]"]);
    let error = pool.wait(&ids)[0]["error"].clone();
    assert_eq!(error["death"]["signal"], "SIGKILL", "{error}\n{}", pool.log());
    assert_eq!(error["death"]["out_of_memory"], true, "{error}\n{}", pool.log());
    assert!(
        error["message"].to_string().contains("memory had run out"),
        "{error}"
    );
    pool.wait_log("memory had run out");
    let (metrics, _) = pool.run(&["metrics"]);
    let counted = r#"pool_worker_deaths_total{pool="default",reason="out_of_memory"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}
