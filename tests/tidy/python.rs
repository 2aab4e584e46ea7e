//! What is written in Python: the packages of the template, and those of the client, depend on each other one way.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, assert_none, sources};

/// Which packages of `python/pool_template/` a package may import; what lies beside them may import all but the dialects.
const PYTHON_ARROWS: [(&str, &[&str]); 5] = [
    ("memory", &[]),
    ("process", &["memory"]),
    ("jobs", &["process"]),
    ("rq", &["process", "jobs"]),
    ("celery", &["process", "jobs"]),
];
/// Packages of which nothing outside knows more than that they are found by their names.
const PYTHON_DIALECTS: [&str; 2] = ["rq", "celery"];

/// Packages of the client, one for each broker: only its list of brokers imports them.
const CLIENT_BROKERS: [&str; 2] = ["sqlite", "rq"];

fn top(module: &str) -> &str {
    module.split('.').next().unwrap_or_default()
}

fn package(module: &str) -> String {
    module.split('.').nth(1).unwrap_or_default().to_owned()
}

/// The modules of `python/`, and those of them that each imports, also for its types alone.
fn python_modules() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources(&["python"], ".py");
    let name = |source: &Source| {
        let path = source.path.trim_start_matches("python/").trim_end_matches(".py");
        path.trim_end_matches("/__init__").replace('/', ".")
    };
    let names: BTreeSet<String> = sources.iter().map(name).collect();
    let modules = sources.iter().map(|source| {
        let module = name(source);
        let imported = source.text.lines().flat_map(|line| imported(line, &names));
        // A module does not import itself: its documentation shows how others do.
        let imported = imported.filter(|other| *other != module).collect();
        (module, imported)
    });
    modules.collect()
}

/// Which of these modules a line imports.
fn imported(line: &str, names: &BTreeSet<String>) -> Vec<String> {
    let line = line.trim_start().split("  #").next().unwrap_or_default();
    let (from, what) = match line
        .strip_prefix("from ")
        .and_then(|rest| rest.split_once(" import "))
    {
        Some((from, what)) => (Some(from), what),
        None => (None, line.strip_prefix("import ").unwrap_or_default()),
    };
    let each = what.split(',').filter_map(|each| each.split_whitespace().next());
    let named = each.map(|each| match from {
        // What a module has is imported with it.
        Some(from) => Some(format!("{from}.{each}"))
            .filter(|name| names.contains(name))
            .unwrap_or_else(|| from.to_owned()),
        None => each.to_owned(),
    });
    named.filter(|name| names.contains(name)).collect()
}

#[test]
fn imports_of_all_kinds_are_seen() {
    let names: BTreeSet<String> = ["a", "a.b", "a.c"].map(str::to_owned).into();
    for (line, expected) in [
        ("from a import b, c as d  # noqa", &["a.b", "a.c"][..]),
        ("    from a.b import thing", &["a.b"]),
        ("import a.b, os", &["a.b"]),
        ("from os import path", &[]),
    ] {
        assert_eq!(imported(line, &names), expected, "{line}");
    }
}

#[test]
fn no_module_of_python_needs_itself() {
    let mut left = python_modules();
    assert!(
        left["pool_template.worker"].contains("pool_template.jobs.loop"),
        "imports are seen"
    );
    // What needs nothing that is left can't be part of a circle.
    loop {
        let before = left.len();
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, imported| imported.iter().any(|each| names.contains(each)));
        if left.len() == before {
            break;
        }
    }
    assert_none(
        left.into_keys().collect(),
        "these modules, or some of them, import each other in a circle",
    );
}

#[test]
fn packages_of_the_python_template_import_only_those_below_them() {
    let packages: BTreeMap<&str, &[&str]> = PYTHON_ARROWS.into_iter().collect();
    let mut broken = Vec::new();
    for (module, imported) in python_modules() {
        if top(&module) == "poolhouse" {
            continue;
        }
        let from = package(&module);
        for other in &imported {
            let to = package(other);
            let allowed = match packages.get(from.as_str()) {
                // What jobs use lies below everything.
                _ if other == "pool_job" => true,
                Some(below) => from == to || below.contains(&to.as_str()),
                None => !PYTHON_DIALECTS.contains(&to.as_str()),
            };
            if !allowed {
                broken.push(format!("{module} imports {other}"));
            }
        }
    }
    assert_none(broken, "the arrows between packages point one way");
}

#[test]
fn client_and_template_share_one_file_and_no_more() {
    let mut broken = Vec::new();
    for (module, imported) in python_modules() {
        for other in &imported {
            // What starts the template is beside it.
            let home = |module: &str| top(module).replace("boot", "pool_template");
            let is_shared = other == "pool_job" || home(&module) == home(other);
            let (from, to) = (package(&module), package(other));
            let is_a_broker = top(other) == "poolhouse" && CLIENT_BROKERS.contains(&to.as_str());
            if !is_shared || (is_a_broker && from != to && from != "brokers") {
                broken.push(format!("{module} imports {other}"));
            }
        }
    }
    assert_none(
        broken,
        "the client and the template are apart, and so are the client's brokers",
    );
}
