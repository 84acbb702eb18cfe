//! Who may use whom. Add a line here only together with the reason in the map at the top of
//! `src/lib.rs`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("buckets", &[]),
    ("cli", &["config", "exit", "loadgen", "quantity", "sample"]),
    ("client", &["api"]),
    (
        "commands",
        &[
            "api", "cli", "client", "config", "daemon", "exit", "gateway", "loadgen", "logger",
            "nearest", "process", "quantity", "sample", "tui",
        ],
    ),
    ("config", &["fleet", "load", "nearest", "probe", "quantity", "roles"]),
    (
        "daemon",
        &[
            "api", "config", "fleet", "gateway", "load", "logger", "probe", "process", "quantity",
            "roles",
        ],
    ),
    ("exit", &[]),
    ("fleet", &["quantity"]),
    ("gateway", &["buckets"]),
    ("load", &["probe"]),
    ("loadgen", &["buckets", "quantity"]),
    ("logger", &[]),
    ("nearest", &[]),
    ("probe", &[]),
    ("process", &[]),
    ("quantity", &[]),
    ("roles", &[]),
    ("sample", &["quantity"]),
    ("tui", &["api", "client", "nearest", "quantity"]),
];

#[test]
fn modules_use_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut surprises = vec![];
    for path in rust_files(Path::new("src")) {
        let user = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if matches!(user.as_str(), "main" | "lib") {
            continue;
        }
        let may = allowed.get(user.as_str()).copied().unwrap_or_default();
        let depth = path.iter().skip(1).filter(|it| *it != "mod.rs").count();
        for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let named = line.split("crate::").skip(1).map(word);
            let climbed = climbed(line, depth).filter(|it| allowed.contains_key(it));
            for used in named.chain(climbed) {
                if used != user && !may.contains(&used) {
                    surprises.push(format!("{}:{}: {user} uses {used}", path.display(), n + 1));
                }
            }
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// What a text begins with, up to the end of the word.
fn word(text: &str) -> &str {
    text.split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap()
}

/// What is named by going up from a file at this depth as far as the root, or further, as a module in it may.
fn climbed(line: &str, depth: usize) -> impl Iterator<Item = &str> {
    let root = "super::".repeat(depth);
    let ups: Vec<_> = line.match_indices(&root).map(|it| it.0 + root.len()).collect();
    ups.into_iter().map(|at| word(line[at..].trim_start_matches("super::")))
}

#[test]
fn who_goes_up_to_the_root_is_seen() {
    let one = |line, depth| climbed(line, depth).collect::<Vec<_>>();
    assert_eq!(one("use super::super::daemon::clock;", 2), ["daemon"]);
    assert_eq!(one("    use super::super::super::daemon::clock;", 2), ["daemon"]);
    assert!(one("use super::daemon::clock;", 2).is_empty());
}

#[test]
fn the_map_names_only_modules_that_are_there() {
    for (name, uses) in ALLOWED {
        for name in std::iter::once(name).chain(*uses) {
            let file = Path::new("src").join(format!("{name}.rs"));
            let folder = Path::new("src").join(name).join("mod.rs");
            assert!(file.exists() || folder.exists(), "there is no module {name}");
        }
    }
}

#[test]
fn the_fleet_reads_no_clock_and_does_nothing() {
    // Of std; everything else of it could do something.
    const PLAIN: [&str; 9] =
        ["borrow", "collections", "fmt", "hash", "mem", "ops", "slice", "sync", "time"];
    // For its tests.
    const TOOLS: [&str; 2] = ["insta", "proptest"];
    const FORBIDDEN: [&str; 4] = ["Instant", "SystemTime", "Mutex", "async "];
    let crates = crates();
    assert!(crates.contains(&"tokio".to_owned()) && crates.contains(&"serde_json".to_owned()));
    for path in rust_files(Path::new("src/fleet")) {
        for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let at = format!("{}:{}: {line}", path.display(), n + 1);
            for part in code.split("std::").skip(1).map(word) {
                assert!(PLAIN.contains(&part), "{at}");
            }
            for it in &crates {
                let is_used = code.split(&format!("{it}::")).count() > 1;
                assert!(!is_used || TOOLS.contains(&it.as_str()), "{at}");
            }
            assert!(!FORBIDDEN.iter().any(|it| code.contains(it)), "{at}");
        }
    }
}

/// What we depend on, as it is written in paths.
fn crates() -> Vec<String> {
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap();
    let tables =
        manifest.split("\n[").filter(|it| word(it) != "package" && it.contains("dependencies]"));
    let lines = tables.flat_map(|it| it.lines().skip(1)).filter_map(|it| it.split_once(" = "));
    lines.map(|it| it.0.replace('-', "_")).collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files
}
