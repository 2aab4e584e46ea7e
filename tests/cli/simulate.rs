//! `pool simulate`: what it prints, and what it says of mistakes.

use crate::kit::Place;

#[test]
fn a_simulation_shows_a_chart_and_a_table() {
    let place = Place::new();
    let args = ["simulate", "--steady", "2", "--for", "2m"];
    insta::assert_snapshot!(place.transcript(&args, &place.run(&args)));
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let place = Place::new();
    let args = [
        "simulate",
        "--poisson",
        "3",
        "--long",
        "5%=20s",
        "--for",
        "10m",
        "--json",
        "--seed",
        "7",
    ];
    let (first, second) = (place.lines(&args), place.lines(&args));
    assert_eq!(first, second);
    let other = [&args[..9], &["8"]].concat();
    assert_ne!(place.lines(&other), first);
}

#[test]
fn settings_are_compared_side_by_side() {
    let place = Place::new();
    place.write("small.toml", "[defaults]\nmax_workers = 3\n");
    place.write("large.toml", "[defaults]\nmax_workers = 30\n");
    let args = [
        "simulate",
        "--burst",
        "60/5m",
        "--for",
        "10m",
        "--config",
        "small.toml",
        "--config",
        "large.toml",
        "--sweep",
        "utilization-threshold=0.4,0.8",
        "--svg",
        "compared.svg",
        "--png",
        "compared.png",
    ];
    let table = place.lines(&args);
    let rows: Vec<&String> = table.iter().filter(|line| line.contains(".toml ")).collect();
    assert_eq!(rows.len(), 4, "{table:?}");
    assert!(
        rows.iter().any(|row| row.contains(" * ")),
        "one is not beaten: {rows:?}"
    );
    let svg = std::fs::read_to_string(place.path("compared.svg")).unwrap();
    assert!(svg.contains("large.toml utilization-threshold=0.4"), "{svg}");
    let png = std::fs::read(place.path("compared.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
}

#[test]
fn a_recorded_load_is_read_with_its_columns() {
    let place = Place::new();
    place.write(
        "jobs.csv",
        "when,tokens\n2026-03-01 09:00:00,10\n2026-03-01 09:00:05,100\n",
    );
    let args = [
        "simulate",
        "--arrivals",
        "jobs.csv",
        "--columns",
        "arrival=when,service=tokens*20ms",
        "--json",
    ];
    let json: serde_json::Value = serde_json::from_str(&place.lines(&args).join("\n")).unwrap();
    assert_eq!(json["load"]["jobs"], 2);
    assert_eq!(json["load"]["work"], 2.2);
    assert_eq!(json["trials"][0]["unfinished"], 0);
}

#[test]
fn floors_hold_at_the_dates_of_a_recorded_load() {
    let place = Place::new();
    place.write(
        "pool.toml",
        "[pools.web]\nmin_workers = 0\n\
         floors = [{ from = \"10:40\", until = \"11:00\", days = [\"tue\"], min_workers = 4, time_zone = \"Europe/Berlin\" }]\n",
    );
    place.write(
        "jobs.csv",
        "arrival,service\n2026-12-01T09:30:00Z,1\n2026-12-01T10:30:00Z,1\n",
    );
    place.write("plain.csv", "arrival,service\n0,1\n3600,1\n");
    let simulated = |file| {
        let said = place
            .lines(&["simulate", "--arrivals", file, "--json"])
            .join("\n");
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    let dated = simulated("jobs.csv");
    assert_eq!(dated["load"]["begins"], "2026-12-01T09:30:00.000Z");
    let sizes = dated["trials"][0]["sizes"].as_array().unwrap();
    let since = |size: &serde_json::Value| size[0].as_f64().unwrap();
    let four = sizes.iter().position(|size| size[1] == 4).expect("the floor");
    // A decision is made each 5 s.
    assert!((599.0..620.0).contains(&since(&sizes[four])), "{sizes:?}");
    assert!(since(&sizes[four + 1]) >= 1799.0, "{sizes:?}");
    let plain = simulated("plain.csv");
    assert_eq!(plain["load"]["begins"], "2024-01-01T00:00:00.000Z", "a Monday");
    assert_eq!(plain["trials"][0]["workers_max"], 1);
}

#[test]
fn growth_beyond_the_processors_is_taken_back_by_the_guard() {
    let place = Place::new();
    let sizes = |flags: &[&str]| {
        let load = [
            "simulate",
            "--json",
            "--steady",
            "8",
            "--service",
            "500ms",
            "--for",
            "5m",
            "--policy",
            "demand",
        ];
        let json = place.lines(&[&load, flags].concat()).join("\n");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let trial = &json["trials"][0];
        let sizes = trial["sizes"].as_array().unwrap();
        let sizes: Vec<u64> = sizes.iter().map(|change| change[1].as_u64().unwrap()).collect();
        let held_s = trial["worker_seconds"].as_f64().unwrap() / trial["took"].as_f64().unwrap();
        (sizes.iter().max().copied().unwrap(), held_s)
    };
    let limits = ["--max-workers", "24"];
    let guard = ["--cores", "2", "--throughput-hold", "5m"];
    let (most, mean) = sizes(&[&limits[..], &guard[..2]].concat());
    assert!(
        most == 24 && mean > 15.0,
        "without the guard: {mean} workers on average"
    );
    let (most, mean) = sizes(&[&limits[..], &guard].concat());
    assert!(most > 4 && mean < 5.0, "taken back: {mean} workers on average");
    // Jobs that sleep are cleared by 24 workers.
    let (_, mean) = sizes(&[&limits[..], &guard[2..]].concat());
    let (_, without) = sizes(&limits);
    assert_eq!(mean, without, "the guard holds nothing that helps");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let place = Place::new();
    place.write("jobs.csv", "arrival,service\n1,0.5\n2,soon\n");
    place.write("other.csv", "when\n1\n");
    place.write("two.toml", "[pools.a]\n[pools.b]\nqueues = [\"b\"]\n");
    insta::assert_snapshot!(place.transcripts(&[
        &["simulate"],
        &["simulate", "--arrivals", "jobs.csv"],
        &["simulate", "--arrivals", "other.csv"],
        &["simulate", "--arrivals", "none.csv"],
        &["simulate", "--poisson", "fast"],
        &["simulate", "--poisson", "1", "--sweep", "max_worker=1..3"],
        &["simulate", "--poisson", "1", "--sweep", "max_workers=9..3"],
        &["simulate", "--poisson", "1", "--config", "two.toml"],
        &["simulate", "--poisson", "1", "--utilization-threshold", "7"],
    ]));
}

#[test]
fn a_part_of_a_recorded_load_is_taken() {
    let place = Place::new();
    // The last one comes after a time that nobody could wait for.
    place.write("jobs.csv", "arrival,service\n0,1\n5,1\n10,1\n1767225600,1\n");
    let jobs = |flags: &[&str]| {
        let args = [&["simulate", "--arrivals", "jobs.csv", "--json"], flags].concat();
        let said: serde_json::Value = serde_json::from_str(&place.lines(&args).join("\n")).unwrap();
        said["load"]["jobs"].as_u64().unwrap()
    };
    assert_eq!(jobs(&["--for", "7s"]), 2);
    assert_eq!(jobs(&["--for", "7s", "--speed", "2"]), 3);
}

#[test]
fn what_has_no_effect_or_would_not_end_is_refused() {
    let place = Place::new();
    place.write("jobs.csv", "arrival,service\n1,0.5\n2,0.5\n");
    place.write("plain.csv", "arrival\n1\n2\n");
    place.write("far.csv", "arrival,service\n1767225600,1\n1767225601,2\n0,1\n");
    place.write("empty.csv", "");
    place.write("none.csv", "arrival,count\n1,0\n");
    let recorded = ["simulate", "--arrivals", "jobs.csv"];
    insta::assert_snapshot!(place.transcripts(&[
        &[&recorded[..], &["--service", "9s"]].concat(),
        &[&recorded[..], &["--long", "5%=1m"]].concat(),
        &[&recorded[..], &["--columns", "arrival=a,arrival=b"]].concat(),
        &[&recorded[..], &["--speed", "1e-9"]].concat(),
        &[&recorded[..], &["--for", "0s"]].concat(),
        &["simulate", "--arrivals", "far.csv"],
        &["simulate", "--arrivals", "empty.csv"],
        &["simulate", "--arrivals", "none.csv"],
        &["simulate", "--poisson", "1", "--for", "1000d"],
        &["simulate", "--poisson", "1", "--service", "1000d"],
        &["simulate", "--poisson", "1e9"],
        &["simulate", "--poisson", "0"],
        &["simulate", "--poisson", "1/d", "--for", "1s"],
        &["simulate", "--poisson", "1", "--sweep", "floors=1"],
        &["simulate", "--poisson", "1", "--sweep", "permits=1"],
        &[
            "simulate",
            "--poisson",
            "1",
            "--sweep",
            "max_workers=3",
            "--sweep",
            "max-workers=4"
        ],
    ]));
    // It has an effect on the other jobs.
    place.lines(&[&recorded[..], &["--service", "9s", "--burst", "2", "--for", "1m"]].concat());
    place.lines(&["simulate", "--arrivals", "plain.csv", "--service", "9s"]);
}

#[test]
fn values_of_flags_are_refused_with_what_is_expected() {
    let place = Place::new();
    insta::assert_snapshot!(place.transcripts(&[
        &["simulate", "--poisson", "-1"],
        &["simulate", "--burst", "99999999999"],
        &["simulate", "--burst", "-5"],
        &["simulate", "--poisson", "1", "--slo", "-1"],
        &["simulate", "--poisson", "1", "--for", "-1"],
        &["simulate", "--poisson", "1", "--service", "-1"],
        &["simulate", "--poisson", "1", "--cores", "nan"],
        &["simulate", "--poisson", "1", "--cores", "0"],
        &["simulate", "--poisson", "1", "--seed", ""],
        &["simulate", "--poisson", "1", "--seed", "-1"],
        &["simulate", "--poisson", "--steady", "1"],
    ]));
}
