//! The tree checks itself: what its documents promise about it is true.

#[path = "tidy/guests.rs"]
mod guests;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/python.rs"]
mod python;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which modules a module may name, besides itself and plain values. The arrows point one way.
const ARROWS: [(&str, &[&str]); 22] = [
    ("job", &[]),
    ("death", &[]),
    ("time", &[]),
    ("text", &[]),
    ("policy", &[]),
    ("wire", &[]),
    // Of the broker only plain values; of the system only files in memory.
    ("config", &["policy", "broker", "sys"]),
    ("sys", &[]),
    // Of the broker only plain values.
    ("fleet", &["policy", "config", "wire", "broker"]),
    // Its options are values of its own, which the settings fill. Of the system it reads the local time zone.
    ("broker", &["sys"]),
    // Of the broker only plain values.
    ("runtime", &["config", "broker", "wire", "sys"]),
    ("worker", &["runtime", "wire", "sys"]),
    ("template", &["worker", "runtime", "wire", "sys"]),
    // Of the fleet only its snapshot.
    ("control", &["fleet"]),
    ("telemetry", &["config", "fleet"]),
    ("metrics", &["fleet"]),
    // Of the fleet only its snapshot and health.
    ("http", &["config", "control", "fleet", "metrics"]),
    (
        "supervisor",
        &[
            "config",
            "fleet",
            "policy",
            "broker",
            "runtime",
            "wire",
            "sys",
            "control",
            "telemetry",
            "metrics",
        ],
    ),
    (
        "cli",
        &[
            "supervisor",
            "config",
            // Of the policy only when schedules are due.
            "policy",
            "control",
            "broker",
            "fleet",
            "telemetry",
            "http",
            "template",
            "wire",
            "sys",
            "sim",
            "picture",
        ],
    ),
    // Of the supervisor only its traffic.
    (
        "sim",
        &["supervisor", "fleet", "policy", "config", "broker", "wire"],
    ),
    ("picture", &[]),
    ("role", &["cli", "template", "runtime"]),
];

/// Plain values, which every module may name.
const VALUES: [&str; 4] = ["job", "death", "time", "text"];

/// Where no event loop may be named: decisions, and the processes that fork.
const WITHOUT_TOKIO: [&str; 9] = [
    "policy", "fleet", "wire", "config", "sim", "picture", "template", "worker", "sys",
];
/// The one file of `sys/` that knows the supervisor's loop.
const TOKIO_ALLOWED: [&str; 1] = ["src/sys/watch.rs"];

/// Modules that decide and do nothing else.
const PURE: [&str; 6] = ["policy", "fleet", "wire", "config", "sim", "picture"];
/// The files of a pure module that read: ours, and by an interpreter a settings module of RQ's.
const READING_ALLOWED: [&str; 2] = ["src/config/load/mod.rs", "src/config/rq/module.rs"];
/// What a pure module never says.
const IMPURE: [&str; 7] = [
    "Mono::now",
    "Unix::now",
    "Now::read",
    "std::fs",
    "std::net",
    "std::process",
    "std::env::var",
];

/// Longest file, in lines: what is longer has two subjects.
const FILE_LINES_MAX: usize = 600;

#[derive(Clone)]
struct Source {
    /// Relative to the root of the tree.
    path: String,
    text: String,
}

impl Source {
    /// The lines that are neither comments nor attributes, with their numbers, up to the unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines
            .take_while(|(_, line)| *line != "mod tests {")
            .map(|(at, line)| (at, line.split("//").next().unwrap_or_default()))
    }

    /// The module of `src/` that it belongs to.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or_default();
        path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below the directories that end like this.
fn sources(directories: &[&str], ending: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    for directory in directories {
        walk(&root().join(directory), &mut paths).unwrap_or_else(|error| panic!("{directory}: {error}"));
    }
    let relative = paths
        .iter()
        .filter_map(|path| path.strip_prefix(root()).ok()?.to_str());
    let matching = relative.filter(|path| path.ends_with(ending));
    matching
        .map(|path| Source {
            path: path.to_owned(),
            text: read(path),
        })
        .collect()
}

/// All files below a directory; none if there is no such directory.
fn walk(path: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        found.extend(path.exists().then(|| path.to_path_buf()));
        return Ok(());
    }
    // Caches of Python and of insta are not ours.
    let is_ours =
        |path: &Path| !path.ends_with("__pycache__") && path.extension() != Some("pending-snap".as_ref());
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if is_ours(&path) {
            walk(&path, found)?;
        }
    }
    Ok(())
}

fn product() -> Vec<Source> {
    let mut sources = sources(&["src"], ".rs");
    sources.retain(|source| !source.is_test());
    sources
}

/// Fails with every place that breaks a rule.
fn assert_none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}

/// Whether the text has this word, not as a part of another.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[test]
fn modules_name_only_those_that_their_arrows_point_to() {
    let mut broken = Vec::new();
    for source in product() {
        let Some((_, arrows)) = ARROWS.iter().find(|(module, _)| *module == source.module()) else {
            continue; // main.rs and lib.rs are above all modules
        };
        for (line, path) in paths::named(source.code()) {
            let [root, named, ..] = path.as_slice() else {
                continue;
            };
            let named = named.as_str();
            let is_module = root == "crate" && ARROWS.iter().any(|(module, _)| *module == named);
            let is_allowed = named == source.module() || VALUES.contains(&named);
            if is_module && !is_allowed && !arrows.contains(&named) {
                broken.push(format!("{}:{line}: {} -> {named}", source.path, source.module()));
            }
        }
    }
    assert_none(broken, "an arrow that ARROWS in tests/tidy.rs does not have:");
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let mut tree = paths::Tree::default();
    for source in product() {
        if source.path != "src/main.rs" {
            tree.add(&source.path, paths::named(source.code()));
        }
    }
    assert_none(
        tree.circles(),
        "circles of modules (a part may name the whole that it is in):",
    );
}

#[test]
fn every_module_is_in_the_list_of_arrows_and_on_both_maps() {
    let (library, architecture) = (read("src/lib.rs"), read("ARCHITECTURE.md"));
    let modules: BTreeSet<String> = sources(&["src"], ".rs")
        .iter()
        .map(|source| source.module().to_owned())
        .filter(|module| !["lib", "main"].contains(&module.as_str()))
        .collect();
    let listed: BTreeSet<String> = ARROWS.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(modules, listed, "modules of src/, and ARROWS in tests/tidy.rs");
    for module in &modules {
        assert!(
            library.contains(&format!("[`{module}`]")),
            "src/lib.rs does not tell what `{module}` is"
        );
        let is_there = [format!("`{module}`"), format!("`{module}/`")];
        assert!(
            is_there.iter().any(|name| architecture.contains(name)),
            "ARCHITECTURE.md lacks `{module}`"
        );
    }
}

#[test]
fn unsafe_stands_in_one_room() {
    let mut broken = Vec::new();
    for source in sources(&["src", "tests", "examples", "benches"], ".rs") {
        if source.module() == "sys" || source.path == "tests/tidy.rs" {
            continue;
        }
        let lines = source.code().filter(|(_, code)| has_word(code, "unsafe"));
        broken.extend(lines.map(|(line, _)| format!("{}:{line}", source.path)));
    }
    assert_none(broken, "`unsafe` outside of src/sys:");
}

#[test]
fn decisions_and_forking_processes_know_no_event_loop() {
    let mut broken = Vec::new();
    for source in product() {
        if !WITHOUT_TOKIO.contains(&source.module()) || TOKIO_ALLOWED.contains(&source.path.as_str()) {
            continue;
        }
        let lines = source.code().filter(|(_, code)| has_word(code, "tokio"));
        broken.extend(lines.map(|(line, _)| format!("{}:{line}", source.path)));
    }
    assert_none(broken, "tokio where it must not be:");
}

#[test]
fn decisions_read_no_clock_and_do_no_io() {
    let mut broken = Vec::new();
    for source in product() {
        if !PURE.contains(&source.module()) || READING_ALLOWED.contains(&source.path.as_str()) {
            continue;
        }
        for (line, code) in source.code() {
            let said = IMPURE.iter().filter(|word| code.contains(**word));
            broken.extend(said.map(|word| format!("{}:{line}: {word}", source.path)));
        }
    }
    assert_none(broken, "a pure module that reads or writes:");
}

#[test]
fn no_file_has_two_subjects() {
    let all = [
        sources(&["src", "tests"], ".rs"),
        sources(&["python", "tests"], ".py"),
    ];
    let broken = all.iter().flatten().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    assert_none(
        broken.collect(),
        &format!("files of more than {FILE_LINES_MAX} lines:"),
    );
}

#[test]
fn nothing_is_left_undone_or_waits_by_sleeping() {
    let words = [
        "todo!",
        "unimplemented!",
        "dbg!",
        "TODO",
        "FIXME",
        "XXX",
        "thread::sleep",
        "time.sleep(",
    ];
    // The built-in task `sleep` does what its name says.
    let sleeps = |path: &str| path.starts_with("src/runtime/");
    let mut broken = Vec::new();
    for source in [
        product(),
        sources(&["python"], ".py"),
        sources(&["scripts", "docs", "systemd"], ""),
    ]
    .concat()
    {
        for (at, line) in source.text.lines().enumerate() {
            let said = words.iter().filter(|word| line.contains(**word));
            let said = said.filter(|word| !(word.contains("sleep") && sleeps(&source.path)));
            broken.extend(said.map(|word| format!("{}:{}: {word}", source.path, at + 1)));
        }
    }
    assert_none(broken, "words that do not belong into what is shipped:");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let at_top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs", "examples"];
    for document in sources(&at_top, ".md") {
        let directory = root().join(&document.path);
        let directory = directory.parent().unwrap_or(root());
        for link in document
            .text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = link.contains("://") || link.starts_with("mailto:");
            if !is_elsewhere && !directory.join(file).exists() {
                broken.push(format!("{}: {link}", document.path));
            }
        }
    }
    assert_none(broken, "links to files that are not there:");
}

#[test]
fn the_changelog_has_a_place_for_what_is_not_released() {
    assert!(read("CHANGELOG.md").contains("\n## [Unreleased]\n"));
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let mut section = "";
    let mut broken = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !line.contains("  # ") {
            broken.push(line.to_owned());
        }
    }
    assert_none(
        broken,
        "Cargo.toml: a dependency without a comment that says what it is for:",
    );
}

#[test]
fn the_units_leave_time_to_load_and_to_stop() {
    let pool = pool::config::PoolConfig::default();
    let app = pool::config::AppConfig::default();
    for unit in ["deploy/systemd/pool.service", "deploy/systemd/pool@.service"] {
        let text = read(unit);
        let seconds = |key: &str| -> u64 {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value
                .unwrap_or_else(|| panic!("{unit} has no {key}"))
                .parse()
                .unwrap()
        };
        assert!(seconds("TimeoutStartSec") > app.load_timeout.as_secs(), "{unit}");
        assert!(
            seconds("TimeoutStopSec") > (pool.stop_timeout + pool.kill_grace).as_secs(),
            "{unit}"
        );
    }
}

#[test]
fn both_units_say_the_same() {
    let settings = |unit: &str| {
        let text = read(unit);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    };
    let of_an_instance = settings("deploy/systemd/pool@.service")
        .replace(" (%i)", "")
        .replace("/etc/pool/%i.toml", "/etc/pool/pool.toml")
        .replace("/etc/default/pool-%i", "/etc/default/pool")
        .replace("Directory=pool/%i", "Directory=pool");
    assert_eq!(of_an_instance, settings("deploy/systemd/pool.service"));
}
