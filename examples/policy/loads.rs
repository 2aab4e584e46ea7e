//! The loads of the comparison.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use pool::sim::load::Load;
use pool::sim::load::service::ServiceTime;
use pool::sim::load::shape::{Shape, Work};
use pool::sim::load::trace::{self, Options};

/// Names of the loads that need no file, each with its shape, the service time in ms and minutes.
const SHAPES: [(&str, Shape, u64, u64); 14] = [
    ("steady 2/s of 1 s", Shape::Steady(2.0), 1000, 30),
    ("random 0.2/s of 1 s", Shape::Poisson(0.2), 1000, 60),
    ("random 2/s of 1 s", Shape::Poisson(2.0), 1000, 60),
    ("random 8/s of 1 s", Shape::Poisson(8.0), 1000, 30),
    ("random 15/s of 1 s", Shape::Poisson(15.0), 1000, 30),
    ("random 50/s of 0.05 s", Shape::Poisson(50.0), 50, 20),
    ("random 0.2/s of 20 s", Shape::Poisson(0.2), 20_000, 60),
    ("step 1 to 15/s of 1 s", Shape::Step(1.0, 15.0), 1000, 30),
    ("step 2 to 80/s of 0.2 s", Shape::Step(2.0, 80.0), 200, 15),
    (
        "200 of 0.5 s each 5 min",
        Shape::Burst(200, Some(Duration::from_secs(300))),
        500,
        30,
    ),
    (
        "1000 of 0.2 s each 10 min",
        Shape::Burst(1000, Some(Duration::from_secs(600))),
        200,
        30,
    ),
    (
        "20 of 5 s each minute",
        Shape::Burst(20, Some(Duration::from_secs(60))),
        5000,
        30,
    ),
    (
        "night 0.1 to noon 8/s of 1 s",
        Shape::Diurnal(0.1, 8.0),
        1000,
        24 * 60,
    ),
    ("idle but 1 in 10 min", Shape::Poisson(1.0 / 600.0), 1000, 240),
];

/// A load with its name.
pub struct Named {
    pub name: String,
    pub load: Load,
}

/// The loads that need no file.
pub fn synthetic(seed: u64) -> Vec<Named> {
    let mut rng = Rng::with_seed(seed);
    let mut loads = Vec::new();
    for (name, shape, service_ms, minutes) in SHAPES {
        let mut draw = |shape: Shape, work: &Work| {
            let load = shape.load(work, Duration::from_secs(minutes * 60), &mut rng);
            load.expect("a load that fits into memory")
        };
        let fixed = ServiceTime::Fixed(Duration::from_millis(service_ms));
        let work = Work {
            service: fixed,
            long: None,
        };
        loads.push(Named {
            name: name.to_owned(),
            load: draw(shape, &work),
        });
    }
    let mixed = Work {
        service: ServiceTime::Exponential(Duration::from_millis(200)),
        long: Some((
            0.03,
            ServiceTime::Between(Duration::from_secs(10), Duration::from_secs(40)),
        )),
    };
    let hour = Duration::from_secs(3600);
    let load = Shape::Poisson(4.0).load(&mixed, hour, &mut rng);
    loads.push(Named {
        name: "4/s of 0.2 s, 3 % of 10 to 40 s".to_owned(),
        load: load.expect("a load that fits into memory"),
    });
    loads
}

/// A recorded load: its file, the columns as they were published or in our slice, how much faster it comes, and what a job
/// takes where the file does not say, in ms.
const RECORDED: [(&str, [&str; 2], f64, u64); 2] = [
    (
        "azure_llm_code.csv",
        [
            "arrival=arrival,service=tokens*20ms",
            "arrival=TIMESTAMP,service=GeneratedTokens*20ms",
        ],
        1.0,
        0,
    ),
    (
        "aws_elb_request_count.csv",
        ["arrival=timestamp,count=value", "arrival=timestamp,count=value"],
        48.0,
        400,
    ),
];

/// The recorded loads of a directory: those of its files that are known.
pub fn recorded(directory: &Path) -> Vec<Named> {
    RECORDED
        .iter()
        .filter_map(|(file, columns, speed, service_ms)| {
            let load = columns.iter().find_map(|columns| {
                let opened = File::open(directory.join(file)).ok()?;
                let options = Options {
                    columns: Some(columns.parse().expect("names of columns")),
                    service: ServiceTime::Fixed(Duration::from_millis(*service_ms)),
                    speed: *speed,
                    ..Options::default()
                };
                trace::read(BufReader::new(opened), &options, &mut Rng::with_seed(1)).ok()
            });
            Some(Named {
                name: file.trim_end_matches(".csv").to_owned(),
                load: load?,
            })
        })
        .collect()
}
