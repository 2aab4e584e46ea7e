//! `max_workers` by the processors that a control group leaves.

use crate::control_group::ControlGroup;
use crate::harness::Pool;

#[test]
fn the_quota_of_the_control_group_says_how_many_workers() {
    let Some(group) = ControlGroup::with_processors(1) else {
        eprintln!("skipped: this user may not make control groups");
        return;
    };
    if std::thread::available_parallelism().is_ok_and(|count| count.get() == 1) {
        eprintln!("skipped: there is only one processor");
        return;
    }
    let settings = "[defaults]\nmin_workers = 1\n\
                    [pools.twice]\nmax_workers = \"2/cpu\"\nqueues = [\"a\"]\n\
                    [pools.auto]\nmax_workers = \"auto\"\nqueues = [\"b\"]\n";
    let pool = Pool::start_within(&group.members(), settings);
    pool.wait_for("its pools", |pool| !pool.state()["pools"]["auto"].is_null());
    let state = pool.state();
    for (name, max) in [("twice", 2), ("auto", 1)] {
        let found = &state["pools"][name];
        assert_eq!(found["max"], max, "{name}: {found}");
        let from = found["max_from"].as_str().unwrap_or_default();
        assert!(
            from.contains("by the quota of the control group"),
            "{name}: {found}"
        );
    }
}
