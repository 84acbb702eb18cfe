//! Who may use whom. Add a line here only together with the reason in the map at the top of
//! `src/lib.rs`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
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
    ("gateway", &[]),
    ("load", &["probe"]),
    ("loadgen", &["quantity"]),
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
        for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let Some((_, rest)) = line.split_once("crate::") else { continue };
            let used: String =
                rest.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            let may = allowed.get(user.as_str()).copied().unwrap_or_default();
            if used != user && !may.contains(&used.as_str()) {
                surprises.push(format!("{}:{}: {user} uses {used}", path.display(), n + 1));
            }
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
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
    const FORBIDDEN: [&str; 9] = [
        "tokio",
        "serde",
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "Instant",
        "SystemTime",
        "async fn",
    ];
    for path in rust_files(Path::new("src/fleet")) {
        for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{}:{}: {word}", path.display(), n + 1);
            }
        }
    }
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
