//! What `deploy/` says of the program holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of a text that begin so.
fn words<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_of_the_catalogue() {
    let catalogue = text("src/metrics/catalogue.rs") + &text("src/metrics/jobs.rs");
    let dashboard = text("deploy/grafana.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).expect("the dashboard is JSON");
    for (path, asked) in [
        ("deploy/grafana.json", dashboard),
        ("deploy/alerts.yaml", text("deploy/alerts.yaml")),
    ] {
        let named = words(&asked, "pool_");
        assert!(named.len() > 5, "{path} names no metrics");
        for name in named {
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(name);
            let is_known = [name, family]
                .iter()
                .any(|name| catalogue.contains(&format!("\"{name}\"")));
            assert!(is_known, "{path}: there is no metric {name}");
        }
    }
}

#[test]
fn a_stop_has_longer_than_the_pool_takes() {
    let pool = pool::config::PoolConfig::default();
    let needed = pool.stop_timeout + pool.kill_grace;
    for (path, key) in [
        ("deploy/kubernetes/pool.yaml", "terminationGracePeriodSeconds: "),
        ("deploy/compose.yaml", "stop_grace_period: "),
        ("deploy/systemd/pool.service", "TimeoutStopSec="),
        ("deploy/systemd/pool@.service", "TimeoutStopSec="),
    ] {
        let text = text(path);
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
        let seconds = line.and_then(|value| value.trim_end_matches('s').parse().ok());
        let given = Duration::from_secs(seconds.unwrap_or_else(|| panic!("{path} has no {key}")));
        assert!(
            given > needed,
            "{path}: {given:?} for a stop that takes {needed:?}"
        );
    }
}

#[test]
fn probes_and_triggers_ask_for_pages_that_there_are() {
    let pages = text("src/http/pages.rs");
    let asked = text("deploy/kubernetes/pool.yaml") + &text("deploy/kubernetes/keda.yaml");
    for page in ["/livez", "/readyz", "/startupz", "/api/v1/scale"] {
        assert!(pages.contains(&format!("\"{page}\"")), "there is no {page}");
        assert!(asked.contains(page), "deploy/kubernetes does not ask for {page}");
    }
}

#[test]
fn the_page_names_each_file() {
    let page = text("docs/deploy.md");
    let mut open = vec![PathBuf::from("deploy")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path
                .strip_prefix("deploy")
                .expect("below it")
                .display()
                .to_string();
            if page.contains(&format!("`{name}/`")) {
                continue; // named as a whole
            }
            if path.is_dir() {
                open.push(path);
            } else {
                assert!(
                    page.contains(&format!("`{name}`")),
                    "docs/deploy.md does not name {name}"
                );
            }
        }
    }
}

/// What the image sets this variable to.
fn of_image<'a>(image: &'a str, variable: &str) -> &'a str {
    let environment = image.lines().find(|line| line.starts_with("ENV ")).expect("ENV");
    let mut words = environment.split(' ').filter_map(|word| word.split_once('='));
    let found = words.find(|(name, _)| *name == variable);
    found
        .unwrap_or_else(|| panic!("{environment} has no {variable}"))
        .1
}

#[test]
fn the_image_runs_with_the_settings_that_are_copied_into_it() {
    let image = text("deploy/Dockerfile");
    assert!(
        image.ends_with("ENTRYPOINT [\"pool\"]\nCMD [\"run\"]\n"),
        "{image}"
    );
    let at = of_image(&image, "POOL_CONFIG");
    let mut copies = image.lines().filter_map(|line| line.strip_prefix("COPY "));
    let source = copies
        .find_map(|copy| copy.strip_suffix(at))
        .expect("a file is copied there");
    let pool = Command::new(env!("CARGO_BIN_EXE_pool"))
        .args(["run", "--print-config"])
        .env("POOL_CONFIG", source.trim())
        .output()
        .expect("pool runs");
    let said = String::from_utf8_lossy(&pool.stderr);
    assert!(pool.status.success(), "{said}");
    let settings = String::from_utf8_lossy(&pool.stdout);
    assert!(settings.contains("runtime = \"rq\""), "{settings}");
}

#[test]
fn the_image_and_the_manifest_agree_on_directories_and_user() {
    let image = text("deploy/Dockerfile");
    let manifest = text("deploy/kubernetes/pool.yaml");
    let settings = Path::new(of_image(&image, "POOL_CONFIG"))
        .parent()
        .expect("a directory");
    let directories = ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"].map(|variable| of_image(&image, variable));
    for directory in directories.into_iter().chain(settings.to_str()) {
        // The root of a pod is read-only.
        let mounted = |end: &str| manifest.contains(&format!("mountPath: {directory}{end}"));
        assert!(
            mounted(" ") || mounted(","),
            "deploy/kubernetes/pool.yaml mounts nothing at {directory}"
        );
    }
    let user = image.lines().find_map(|line| line.strip_prefix("USER "));
    let user: u32 = user.and_then(|user| user.parse().ok()).expect("USER is a number");
    assert!(image.contains(&format!("useradd --uid {user} ")), "{image}");
    assert!(manifest.contains(&format!("runAsUser: {user},")), "{manifest}");
}
