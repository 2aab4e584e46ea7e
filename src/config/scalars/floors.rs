//! `[[pools.NAME.floors]]`: an array of tables.

use jiff::civil::Weekday;

use super::raw::{Node, Table, Value};
use super::setting::{Arity, Base, Given, Setting, Wrong, all_or_wrongs, bare_or_quoted, describe, quoted};
use crate::policy::floors::{DAY, Days, Floor, Floors};
use crate::policy::zone::Zone;

/// The keys of one floor.
const KEYS: [&str; 5] = ["from", "until", "days", "min_workers", "time_zone"];
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const EXPECTED: &str =
    "an array of tables such as `[{ from = \"08:00\", until = \"18:00\", min_workers = 4 }]`";
const DAYS_EXPECTED: &str = "days such as `[\"mon\", \"sat\"]` or `[\"mon-fri\"]`";

impl Setting for Floors {
    fn set(&mut self, given: Given<'_>, _: &Base) -> Result<(), Vec<Wrong>> {
        let items = match given {
            Given::Node(Node {
                value: Value::Array(items),
                ..
            }) => items,
            Given::Node(node) => return Err(vec![wrong("", node, EXPECTED)]),
            Given::Words(_) | Given::Variable(_) => {
                return Err(vec![Wrong {
                    item: String::new(),
                    line: None,
                    found: "a word".to_owned(),
                    expected: EXPECTED.into(),
                }]);
            }
        };
        let read = |(at, node): (usize, &Node)| match &node.value {
            Value::Table(table) => floor(&format!("[{at}]"), node, table),
            _ => Err(wrong(&format!("[{at}]"), node, EXPECTED)),
        };
        self.0 = all_or_wrongs(items.iter().enumerate().map(read))?;
        Ok(())
    }

    fn literal(&self) -> String {
        let floors: Vec<String> = self.0.iter().map(print).collect();
        format!("[{}]", floors.join(", "))
    }

    fn arity(&self) -> Arity {
        Arity::Many
    }
}

fn wrong(item: &str, node: &Node, expected: &'static str) -> Wrong {
    Wrong {
        item: item.to_owned(),
        line: Some(node.line),
        found: describe(&node.value, str::to_owned),
        expected: expected.into(),
    }
}

fn floor(at: &str, node: &Node, table: &Table) -> Result<Floor, Wrong> {
    if let Some((name, node)) = table.iter().find(|(name, _)| !KEYS.contains(&name.as_str())) {
        return Err(Wrong {
            item: format!("{at}.{}", bare_or_quoted(name)),
            line: Some(node.line),
            found: "an unknown key".to_owned(),
            expected: KEYS.join(", ").into(),
        });
    }
    let needed = |key: &str, expected: &'static str| {
        table.get(key).ok_or_else(|| Wrong {
            item: format!("{at}.{key}"),
            line: Some(node.line),
            found: "nothing".to_owned(),
            expected: expected.into(),
        })
    };
    let time = |key: &str| {
        let expected = "a time of day such as \"08:00\", or \"24:00\"";
        let node = needed(key, expected)?;
        let text = if let Value::String(text) = &node.value {
            text.as_str()
        } else {
            ""
        };
        minute_of(text).ok_or_else(|| wrong(&format!("{at}.{key}"), node, expected))
    };
    let (from, until) = (time("from")?, time("until")?);
    if from == until || from == DAY {
        let expected = "another time than `until`; for all day, \"00:00\" and \"24:00\"";
        return Err(wrong(&format!("{at}.from"), needed("from", expected)?, expected));
    }
    let expected = "a number of workers";
    let min = needed("min_workers", expected)?;
    let min_workers = match min.value {
        Value::Integer(number) => u32::try_from(number).ok(),
        _ => None,
    };
    Ok(Floor {
        from,
        until,
        days: table.get("days").map_or(Ok(Days::ALL), |node| days(at, node))?,
        min_workers: min_workers.ok_or_else(|| wrong(&format!("{at}.min_workers"), min, expected))?,
        zone: table
            .get("time_zone")
            .map_or_else(|| Ok(Zone::default()), |node| zone(at, node))?,
    })
}

/// `08:00` is 480.
fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_two_digits = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_two_digits)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY).then_some(minutes)
}

fn days(at: &str, node: &Node) -> Result<Days, Wrong> {
    let item = format!("{at}.days");
    let Value::Array(items) = &node.value else {
        return Err(wrong(&item, node, DAYS_EXPECTED));
    };
    let mut days = Days::NONE;
    for part in items {
        let text = if let Value::String(text) = &part.value {
            text.as_str()
        } else {
            ""
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let place = |name: &str| DAYS.iter().position(|(known, _)| *known == name);
        let (Some(first), Some(last)) = (place(first), place(last)) else {
            return Err(wrong(&item, part, DAYS_EXPECTED));
        };
        // `sat-mon` goes over the end of the week.
        let length = (last + DAYS.len() - first) % DAYS.len();
        for step in 0..=length {
            days = days.with(DAYS[(first + step) % DAYS.len()].1);
        }
    }
    if days.is_empty() {
        return Err(wrong(&item, node, DAYS_EXPECTED));
    }
    Ok(days)
}

fn zone(at: &str, node: &Node) -> Result<Zone, Wrong> {
    let name = if let Value::String(name) = &node.value {
        name.as_str()
    } else {
        ""
    };
    let expected = "the name of a time zone such as \"Europe/Berlin\" or \"UTC\"";
    Zone::named(name).ok_or_else(|| wrong(&format!("{at}.time_zone"), node, expected))
}

fn print(floor: &Floor) -> String {
    let time = |minute: u16| quoted(&format!("{:02}:{:02}", minute / 60, minute % 60));
    let on = DAYS.iter().filter(|(_, day)| floor.days.has(*day));
    let days: Vec<String> = on.map(|(name, _)| quoted(name)).collect();
    format!(
        "{{ from = {}, until = {}, days = [{}], min_workers = {}, time_zone = {} }}",
        time(floor.from),
        time(floor.until),
        days.join(", "),
        floor.min_workers,
        quoted(&floor.zone.name)
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::raw::parse;
    use super::*;
    use crate::sys::cpu::processors;

    fn read(text: &str) -> Floors {
        let (table, errors) = parse(&format!("floors = {text}"));
        assert_eq!(errors, []);
        let base = Base {
            directory: PathBuf::new(),
            home: None,
            processors: processors(),
        };
        let mut floors = Floors::default();
        floors.set(Given::Node(&table["floors"]), &base).unwrap();
        floors
    }

    #[test]
    fn a_floor_needs_only_times_and_workers() {
        let floors = read("[{ from = \"22:00\", until = \"24:00\", min_workers = 4 }]");
        let expected = Floor {
            from: 22 * 60,
            until: DAY,
            days: Days::ALL,
            min_workers: 4,
            zone: Zone::default(),
        };
        assert_eq!(floors, Floors(vec![expected]));
    }

    #[test]
    fn days_may_be_ranges_over_the_end_of_the_week() {
        let floors =
            read("[{ from = \"00:00\", until = \"01:00\", min_workers = 1, days = [\"sat-mon\", \"wed\"] }]");
        let days = DAYS.iter().filter(|(_, day)| floors.0[0].days.has(*day));
        assert_eq!(
            days.map(|(name, _)| *name).collect::<Vec<_>>(),
            ["mon", "wed", "sat", "sun"]
        );
    }

    #[test]
    fn what_is_printed_reads_back() {
        let floors = read(
            "[{ from = \"08:30\", until = \"18:05\", min_workers = 4, days = [\"mon-fri\"], time_zone = \"Europe/Berlin\" },
              { from = \"22:00\", until = \"06:00\", min_workers = 1 }]",
        );
        assert_eq!(read(&floors.literal()), floors);
    }
}
