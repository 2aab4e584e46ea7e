//! `config.example.toml` is complete and true.

use super::super::{keys, scalars::raw};
use super::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The example with what it shows in comments.
fn example_in_full() -> String {
    let is_setting = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.starts_with('[')
            || (line.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let shown = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_setting(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_file_holds_exactly_the_defaults() {
    let (example, defaults) = (
        load_from(EXAMPLE, &[], &[]).unwrap(),
        load_from("", &[], &[]).unwrap(),
    );
    assert_eq!(
        Config {
            file: None,
            ..example
        },
        defaults
    );
}

#[test]
fn the_example_file_shows_every_key_with_its_flag_and_variable() {
    let (table, errors) = raw::parse(&example_in_full());
    assert_eq!(errors, []);
    let raw::Value::Table(tasks) = &table["tasks"].value else {
        panic!("{table:?}")
    };
    let raw::Value::Table(schedules) = &table["schedules"].value else {
        panic!("{table:?}")
    };
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let check = |section: &mut dyn keys::Section, table: &raw::Table| {
        section.each_key(&mut |key, _| {
            let node = table
                .get(key.name)
                .unwrap_or_else(|| panic!("`{}` is not shown", key.name));
            // What stands between the key before and this one.
            let comment = lines[..node.line - 1]
                .iter()
                .rev()
                .take_while(|line| line.starts_with('#'));
            let comment: String = comment.copied().collect();
            assert!(comment.len() > 3, "`{}` is not explained", key.name);
            if let Some(variable) = key.variable() {
                assert!(
                    comment.contains(&format!(" --{} {variable}", key.flag)),
                    "{key:?} in {comment}"
                );
            }
        });
    };
    let table_of = |node: &raw::Node| match &node.value {
        raw::Value::Table(table) => table.clone(),
        other => panic!("{other:?}"),
    };
    check(&mut BrokerConfig::default(), &table_of(&table["broker"]));
    check(&mut RqConfig::default(), &table_of(&table["rq"]));
    check(&mut CeleryConfig::default(), &table_of(&table["celery"]));
    check(&mut AppConfig::default(), &table_of(&table["app"]));
    check(&mut SupervisorConfig::default(), &table_of(&table["supervisor"]));
    check(&mut PoolConfig::default(), &table_of(&table["defaults"]));
    check(&mut MetricsConfig::default(), &table_of(&table["metrics"]));
    check(&mut LogConfig::default(), &table_of(&table["log"]));
    check(&mut TaskConfig::default(), &table_of(&tasks["thumbnail"]));
    check(&mut ScheduleConfig::default(), &table_of(&schedules["report"]));
    assert!(table.contains_key("socket"));
}

#[test]
fn what_the_example_file_shows_in_comments_is_right_too() {
    let text = example_in_full().replace("runtime = \"native\"", "runtime = \"command\"");
    let config = load_from(&text, &[], &[]).unwrap();
    assert_eq!(config.pools.len(), 2);
    assert_eq!(config.tasks.len(), 1);
    assert_eq!(config.schedules.len(), 1);
}
