//! The themes of the operator's own, for `opsdeck config check` and `--theme`.

use std::path::{Path, PathBuf};

use super::{local, place};
use crate::api::{Problem, problem};
use crate::cli::Place;
use crate::tui::theme::Roles;
use crate::tui::theme::file;

/// Where they are: beside the configuration that was named, then beside the operator's own.
pub fn directories(place: &Place) -> Vec<PathBuf> {
    let beside = |place: &Place| Some(place::config_file(place).ok()?.parent()?.join("themes"));
    let mut all: Vec<PathBuf> =
        [beside(place), beside(&Place::default())].into_iter().flatten().collect();
    all.dedup();
    all
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
    let mut all = directories(&Place::default());
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
