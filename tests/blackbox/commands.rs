//! Programs as tasks: what they read, what becomes of their output, and what they may take.

use serde_json::{Value, json};

use crate::harness::Pool;

/// A stand-in for ImageMagick's: reads an image, and prints one that begins as a PNG does.
const CONVERT: &str =
    "#!/bin/sh\n[ \"$*\" = '- -thumbnail 200x200 png:-' ] || exit 9\nprintf '\\211PNG'\nexec cat\n";

const SETTINGS: &str = r#"
[tasks.thumbnail]
command = ["convert", "-", "-thumbnail", "200x200", "png:-"]
stdin = "base64"
stdout = "base64"
[tasks.shout]
command = ["tr", "a-z", "A-Z"]
stdin = "raw"
stdout = "text"
[tasks.greedy]
command = ["sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"]
max_memory = "64M"
[tasks.busy]
command = ["sh", "-c", "while :; do :; done"]
max_cpu_time = "1s"
"#;

fn ended(pool: &Pool, args: &[&str]) -> Value {
    let ids = pool.enqueue(args);
    pool.wait(&ids).remove(0)
}

/// A pool, and the directory of its tools and files.
fn start() -> (Pool, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let tools = directory.path();
    let convert = tools.join("convert");
    crate::program::script(CONVERT, &convert);
    let path = format!(
        "{}:{}",
        tools.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let file = format!(
        "environment = {{ PATH = \"{path}\" }}\n{SETTINGS}[tasks.keep]\ncommand = [\"cat\"]\nstdin = \"base64\"\n\
         stdout = \"file\"\noutput_directory = \"{}\"\nmax_output = \"1K\"\n",
        tools.display()
    );
    (Pool::start_commands(&file), directory)
}

#[test]
fn bytes_go_in_and_come_out_whole() {
    let (mut pool, _directory) = start();
    // "\xff\x00" becomes the beginning of a PNG and these bytes.
    assert_eq!(
        ended(&pool, &["thumbnail", "\"/wA=\""])["result"],
        json!({"base64": "iVBOR/8A"})
    );
    // The output of one is the input of another.
    assert_eq!(
        ended(&pool, &["thumbnail", "{\"base64\": \"/wA=\"}"])["result"],
        json!({"base64": "iVBOR/8A"})
    );
    assert_eq!(
        ended(&pool, &["shout", "\"a \\\"b\\\"\""])["result"],
        json!("A \"B\"")
    );
    let refused = ended(&pool, &["shout", "[1]", "--retries", "3"]);
    assert_eq!(refused["error"]["kind"], "wrong arguments", "{refused}");
    pool.assert_clean_stop();
}

#[test]
fn output_is_kept_in_a_file_unless_it_is_too_large() {
    let (mut pool, directory) = start();
    let kept = ended(&pool, &["keep", "\"/wA=\"", "--id", "image"]);
    assert_eq!(kept["result"]["bytes"], 2, "{kept}");
    let path = kept["result"]["file"].as_str().expect("a path").to_owned();
    assert!(path.ends_with("/image"), "{path}");
    assert_eq!(std::fs::read(&path).expect("the file is there"), b"\xff\x00");
    let large = format!("\"{}\"", "AAAA".repeat(1000));
    let failed = ended(&pool, &["keep", &large, "--id", "large"]);
    assert_eq!(failed["error"]["kind"], "output too large", "{failed}");
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("it can be read")
        .flatten()
        .collect();
    assert_eq!(names.len(), 2, "convert and image: {names:?}");
    pool.assert_clean_stop();
}

#[test]
fn a_program_gets_no_more_than_its_limits() {
    let (mut pool, _directory) = start();
    let greedy = pool.enqueue(&["greedy"]);
    let busy = pool.enqueue(&["busy"]);
    let ended = pool.wait(&[greedy, busy].concat());
    assert!(ended.iter().all(|job| job["state"] == "dead"), "{ended:?}");
    let kinds: Vec<&Value> = ended.iter().map(|job| &job["error"]["kind"]).collect();
    assert!(kinds.contains(&&json!("processor time")), "{ended:?}");
    pool.assert_clean_stop();
}
