//! The Python template: its packages depend on each other one way.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, assert_none, sources};

/// Which packages of `python/pool_template/` a package may import; what lies beside them may import all but the dialects.
const PYTHON_ARROWS: [(&str, &[&str]); 4] = [
    ("memory", &[]),
    ("process", &["memory"]),
    ("jobs", &["process"]),
    ("rq", &["process", "jobs"]),
];
/// Packages of which nothing outside knows more than that they are found by their names.
const PYTHON_DIALECTS: [&str; 1] = ["rq"];

/// The template's modules, and those that each imports, also for its types alone.
fn python_modules() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources(&["python/pool_template"], ".py");
    let name = |source: &Source| {
        let path = source.path.trim_start_matches("python/").trim_end_matches(".py");
        path.trim_end_matches("/__init__").replace('/', ".")
    };
    let names: BTreeSet<String> = sources.iter().map(name).collect();
    let imported = |source: &Source| -> BTreeSet<String> {
        let lines = source.text.lines().map(str::trim_start);
        let lines = lines.filter_map(|line| line.strip_prefix("from ")?.split_once(" import "));
        let ours = lines.filter(|(from, _)| from.starts_with("pool_template"));
        ours.flat_map(|(from, what)| {
            let what = what.split("  #").next().unwrap_or_default();
            let each = what
                .split(',')
                .map(|each| each.split_whitespace().next().unwrap_or_default());
            each.map(|each| format!("{from}.{each}"))
                .map(|name| {
                    if names.contains(&name) {
                        name
                    } else {
                        from.to_owned()
                    }
                })
                .collect::<Vec<_>>()
        })
        .collect()
    };
    sources
        .iter()
        .map(|source| (name(source), imported(source)))
        .collect()
}

#[test]
fn no_module_of_the_python_template_needs_itself() {
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
    let package = |name: &str| name.split('.').nth(1).unwrap_or_default().to_owned();
    let packages: BTreeMap<&str, &[&str]> = PYTHON_ARROWS.into_iter().collect();
    let mut broken = Vec::new();
    for (module, imported) in python_modules() {
        let from = package(&module);
        for other in &imported {
            let to = package(other);
            let allowed = match packages.get(from.as_str()) {
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
