//! README.md, the help, the exit codes, the example, the schema and the key table say the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::process::Command;

use opsdeck::config::keys::ACTIONS;
use opsdeck::exit::TABLE;
use opsdeck::tui::keymap;
use serde_json::Value;

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../config.example.toml");

fn opsdeck(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_opsdeck")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rows of the table of README.md that begins with this header.
fn rows(header: &str) -> Vec<Vec<&'static str>> {
    let table = README.lines().skip_while(|it| *it != header).skip(2);
    table
        .take_while(|it| it.starts_with('|'))
        .map(|it| it.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn the_exit_codes_of_readme_and_help_are_those_of_the_table() {
    let table: Vec<_> = TABLE
        .iter()
        .map(|(exit, text)| vec![exit.code().to_string(), (*text).to_owned()])
        .collect();
    assert_eq!(rows("| code | meaning |"), table);
    assert!(opsdeck(&["--help"]).contains(&opsdeck::exit::table()));
}

#[test]
fn every_command_of_the_help_is_in_readme_and_the_other_way_round() {
    let help = opsdeck(&["--help"]);
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let helped: BTreeSet<&str> = listed
        .lines()
        .filter(|it| it.starts_with("  ") && !it.starts_with("   "))
        .filter_map(|it| it.split_whitespace().next())
        .filter(|it| *it != "help")
        .collect();
    let mut told = BTreeSet::new();
    for row in rows("| command | does |") {
        for name in row[0].split('`').skip(1).step_by(2) {
            let mut words = name.split(' ');
            let first = words.next().unwrap();
            let command = if first == "opsdeck" { words.next() } else { Some(first) };
            told.extend(command);
        }
    }
    // The subcommands of `config` stand in its row.
    let config = ["show", "diff", "apply", "schema"];
    told.retain(|it| !config.contains(it));
    assert_eq!(told, helped);
}

#[test]
fn the_manual_page_has_every_command_and_bash_can_read_its_completions() {
    let page = opsdeck(&["man"]);
    for row in rows("| command | does |") {
        let first = row[0].split('`').nth(1).unwrap();
        let name: Vec<&str> = first.split(' ').take(2).collect();
        if name.len() == 2 {
            assert!(page.contains(&format!(".SH \"{}\"\n", name.join(" "))), "{name:?}");
        }
    }
    assert!(page.contains(".SH \"opsdeck config check\"\n"));
    assert!(page.contains(".SH \"EXIT STATUS\"\n"));
    assert!(!page.contains("opsdeck exec-as") && !page.contains("opsdeck logger"));
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(opsdeck(&["completions", shell]).contains("rollback"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("opsdeck.bash");
    std::fs::write(&script, opsdeck(&["completions", "bash"])).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&script).status().unwrap().success());
}

#[test]
fn the_configurations_in_readme_have_no_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let blocks: Vec<&str> =
        README.split("```toml\n").skip(1).map(|it| it.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let file = directory.path().join("config.toml");
        std::fs::write(&file, block).unwrap();
        opsdeck(&["config", "check", file.to_str().unwrap()]);
    }
}

#[test]
fn every_key_of_the_schema_is_in_readme_or_in_the_example() {
    let schema: Value = serde_json::from_str(include_str!("../assets/config.schema.json")).unwrap();
    let mut missing = vec![];
    for table in ["deck", "defaults"] {
        for name in schema["properties"][table]["properties"].as_object().unwrap().keys() {
            let is_told = README.contains(&format!("`{name}`")) || EXAMPLE.contains(name.as_str());
            if !is_told {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_keys_of_the_configuration_and_of_the_deck_are_the_same() {
    let configured: Vec<_> = ACTIONS.iter().map(|(name, keys, _)| (*name, *keys)).collect();
    let bound: Vec<_> = keymap::TABLE.iter().map(|it| (it.name, it.keys)).collect();
    assert_eq!(configured, bound);
}

#[test]
fn every_key_of_the_deck_is_in_readme() {
    let mut told = BTreeSet::new();
    for row in rows("| key | does | key | does |") {
        for cell in [row[0], row[2]] {
            told.extend(cell.split('`').skip(1).step_by(2));
        }
    }
    let bound: BTreeSet<&str> =
        keymap::TABLE.iter().flat_map(|it| it.keys.iter().copied()).collect();
    assert_eq!(told, bound);
}
