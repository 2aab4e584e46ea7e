//! Programs whose jobs are run here are named in rooms of their own.

use crate::{assert_none, product, sources};

/// A program whose jobs are run here, and the rooms that may name it. Comments count as well.
const GUESTS: [(&str, &[&str]); 2] = [
    (
        "rq",
        &[
            "src/broker/rq/",
            "src/config/rq/",
            // The lists of brokers, dialects and runtimes, and of Python's files.
            "src/broker/mod.rs",
            "src/config/dialect/mod.rs",
            "src/config/values/dialects.rs",
            "src/config/mod.rs",
            "src/runtime/mod.rs",
            "src/runtime/rq.rs",
            "src/runtime/python.rs",
            "python/pool_template/rq/",
            "python/poolhouse/rq/",
            // The client's list of brokers.
            "python/poolhouse/brokers.py",
            // The list of the template's packages.
            "python/pool_template/__init__.py",
        ],
    ),
    (
        "celery",
        &[
            "src/broker/celery/",
            "src/config/celery/",
            // The lists of brokers, dialects and runtimes, and of Python's files.
            "src/broker/mod.rs",
            "src/config/dialect/mod.rs",
            "src/config/values/dialects.rs",
            "src/config/mod.rs",
            "src/runtime/mod.rs",
            "src/runtime/celery.rs",
            "src/runtime/python.rs",
            "python/pool_template/celery/",
            // The list of the template's packages.
            "python/pool_template/__init__.py",
        ],
    ),
];

#[test]
fn guests_are_named_in_their_rooms_alone() {
    let mut broken = Vec::new();
    for source in [product(), sources(&["python"], ".py")].concat() {
        for (guest, rooms) in GUESTS {
            if rooms.iter().any(|room| source.path.starts_with(room)) {
                continue;
            }
            let lines = source.text.lines().enumerate();
            for (at, line) in lines.take_while(|(_, line)| *line != "mod tests {") {
                if names_guest(line, guest) {
                    broken.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
                }
            }
        }
    }
    assert_none(
        broken,
        "a guest's name outside of the rooms that GUESTS in tests/tidy.rs lists:",
    );
}

/// Whether a word of the line, or a part of one (`RqConfig`, `rq_load`), is the guest's name.
fn names_guest(line: &str, guest: &str) -> bool {
    let mut parts = line.split(|c: char| !c.is_alphanumeric()).flat_map(|word| {
        let mut parts = vec![String::new()];
        for c in word.chars() {
            if c.is_uppercase()
                && parts
                    .last()
                    .is_some_and(|part| part.ends_with(char::is_lowercase))
            {
                parts.push(String::new());
            }
            parts.last_mut().expect("one part at least").push(c);
        }
        parts
    });
    parts.any(|part| part.eq_ignore_ascii_case(guest))
}

#[test]
fn a_guests_name_is_found_in_words_of_all_kinds() {
    for line in [
        "/// As RQ does.",
        "use super::rq::words;",
        "struct RqLoad {",
        "let rq_words = 1;",
        "Kind::Rq,",
    ] {
        assert!(names_guest(line, "rq"), "{line}");
    }
    for line in ["let sqrt = 2;", "required", "torque(1)"] {
        assert!(!names_guest(line, "rq"), "{line}");
    }
}
