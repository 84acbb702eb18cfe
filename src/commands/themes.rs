//! The themes of the operator's own, for `opsdeck config check` and `--theme`.

use std::path::{Path, PathBuf};

use super::{local, place};
use crate::api::{Problem, problem};
use crate::cli::Place;
use crate::tui::theme::Roles;
use crate::tui::theme::file;

/// Where they are: beside the operator's own configuration.
pub fn directories() -> Vec<PathBuf> {
    let config = place::config_file(&Place::default()).ok();
    config.and_then(|it| Some(it.parent()?.join("themes"))).into_iter().collect()
}

/// The theme that was asked for, before anything is shown.
pub fn chosen(name: Option<&str>, directories: &[PathBuf]) -> Result<Option<Roles>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let found = file::find(name, directories);
    found.map(Some).map_err(|err| local("the deck was not started", err.lines().join("\n")))
}

/// The theme that the configuration `config` wants is there, and nothing is wrong with any beside it.
pub fn check(config: &Path, wanted: &str) -> Result<(), Problem> {
    let directory = config.parent().unwrap_or(Path::new("")).join("themes");
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&directory) {
        Ok(entries) => entries.filter_map(|it| Some(it.ok()?.path())).collect(),
        // There need be none.
        Err(_) => vec![],
    };
    files.retain(|it| it.extension().is_some_and(|it| it == "toml"));
    files.sort();
    let mut told: Vec<String> = vec![];
    let mut all = directories();
    all.push(directory);
    // Its own mistakes are told with those of the others.
    if let Err(err @ file::ThemeError::Unknown { .. }) = file::find(wanted, &all) {
        told.extend(err.lines());
    }
    told.extend(files.iter().filter_map(|it| file::read(it).err()).flat_map(|it| it.lines()));
    if told.is_empty() {
        return Ok(());
    }
    let detail = format!("\n{}", told.join("\n"));
    Err(Problem {
        kind: problem::CONFIG.into(),
        ..local("the themes of the deck have mistakes", detail)
    })
}
