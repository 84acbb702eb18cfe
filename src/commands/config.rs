//! `opsdeck config check|show|diff|apply|schema` and `opsdeck import`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Outcome, json_line, local, notice, out, place, printable, themes, unprinted};
use crate::api::{Act, ConfigVerb, Difference, Done, KeyChange, Problem, Request, Warning};
use crate::cli::{ConfigCommand, ImportCommand, Place};
use crate::config::settings::Settings;
use crate::config::{self, diff, schema, show};
use crate::daemon::own;
use crate::exit::Exit;
use crate::quantity::count;

pub async fn run(place: &Place, command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check { file } => check(place, &file_of(place, file.as_deref())?).await,
        ConfigCommand::Show => {
            let settings = load(&file_of(place, None)?)?;
            print(&show::show(&settings))
        }
        ConfigCommand::Diff { file, json } => {
            let lines = compare(place, file.as_deref()).await?;
            print(&shown(&lines, *json)?)
        }
        ConfigCommand::Apply { yes } => {
            let client = place::client(place)?;
            let act = Act { yes: *yes, ..Act::default() };
            let done = client.send(&Request::Config { verb: ConfigVerb::Apply, act }).await?;
            warn(done.warnings.iter().flatten());
            print(&applied(&done))
        }
        ConfigCommand::Schema => {
            let text = serde_json::to_string_pretty(&schema::schema())
                .map_err(|err| local("could not write the schema as JSON", err.to_string()))?;
            print(&(text + "\n"))
        }
    }
}

/// Prints what another program's configuration comes to.
pub fn import(command: &ImportCommand) -> Outcome {
    let ImportCommand::Nginx { file } = command;
    print(&config::import::nginx(file).map_err(|err| place::unimported(file, &err))?)
}

fn file_of(place: &Place, file: Option<&Path>) -> Result<PathBuf, Problem> {
    match file {
        Some(file) => Ok(file.to_owned()),
        None => place::config_file(place),
    }
}

fn load(path: &Path) -> Result<Settings, Problem> {
    config::load(path).map_err(|err| place::mistakes(&err))
}

async fn check(place: &Place, path: &Path) -> Outcome {
    let settings = config::check(path).map_err(|err| place::mistakes(&err))?;
    match known_to_daemon(place, path).await {
        Some(warnings) => warn(&warnings),
        None => warn(&warnings_of(&settings)),
    }
    check_places(place, &settings)?;
    themes::check(path, &settings.deck.look.theme)?;
    let instances: usize = settings.services.iter().map(|it| it.instances.len()).sum();
    let services = settings.services.len();
    let (services, instances) =
        (count(services as u64, "service"), count(instances as u64, "instance"));
    print(&format!("{}: {services}, {instances}\n", path.display()))
}

/// Where others may put something no daemon begins, theirs aside: who asks may not be the one who runs it, and what
/// is root's, or is not there yet, will be run by root.
fn check_places(place: &Place, settings: &Settings) -> Result<(), Problem> {
    let paths = place::paths(place, &settings.deck)?;
    let Err(err) = own::look(&paths.state_dir, &paths.runtime_dir, &paths.socket) else {
        return Ok(());
    };
    let problem = super::daemon::could_not_begin(&err);
    let owner = std::fs::metadata(&paths.state_dir).map_or(0, |it| it.uid());
    if nix::unistd::geteuid().is_root() && owner == 0 {
        return Err(problem);
    }
    let message = format!("a daemon of this user would not begin: {}", problem.title);
    let help = problem.help.unwrap_or_default();
    warn([&Warning { name: "deck".into(), message, help }]);
    Ok(())
}

/// What a daemon that runs by this file warns of: it knows the values of `--set`.
async fn known_to_daemon(place: &Place, path: &Path) -> Option<Vec<Warning>> {
    let client = place::client(place).ok()?;
    let running = client.brief().await.ok()?.config.path?;
    if path.canonicalize().ok()? != Path::new(&running).canonicalize().ok()? {
        return None;
    }
    let request = Request::Config { verb: ConfigVerb::Check, act: Act::default() };
    client.send(&request).await.ok()?.warnings
}

fn warnings_of(settings: &Settings) -> Vec<Warning> {
    let warning = |config::Warning { name, message, help }| Warning { name, message, help };
    config::warnings(settings, &config::Valued::new()).into_iter().map(warning).collect()
}

fn warn<'a>(warnings: impl IntoIterator<Item = &'a Warning>) {
    for Warning { name, message, help } in warnings {
        let (message, help) = (printable(message), printable(help));
        notice(&format!("warning: {name}: {message}\n  help: {help}"));
    }
}

/// What the daemon would do with its own file; or what tells another file from it.
async fn compare(place: &Place, file: Option<&Path>) -> Result<Vec<Difference>, Problem> {
    Ok(match file {
        None => {
            let request = Request::Config { verb: ConfigVerb::Diff, act: Act::default() };
            let done = place::client(place)?.send(&request).await?;
            warn(done.warnings.iter().flatten());
            done.diff.unwrap_or_default()
        }
        Some(file) => {
            let old = load(&place::config_file(place)?)?;
            let new = load(file)?;
            warn(&warnings_of(&new));
            let diff = diff::diff(&old, &new);
            let line = |it: &diff::Change| Difference {
                name: it.name.clone(),
                does: it.does.word().into(),
                message: it.message(),
                values: it.values.iter().map(key_change).collect(),
            };
            diff.changes.iter().map(line).collect()
        }
    })
}

fn shown(lines: &[Difference], json: bool) -> Result<String, Problem> {
    if json {
        return json_line(&lines, "the differences");
    }
    match lines {
        [] => Ok("no difference\n".into()),
        lines => Ok(lines.iter().map(in_lines).collect()),
    }
}

/// What was applied, change by change as the deck shows it.
fn applied(done: &Done) -> String {
    match done.diff.as_deref() {
        None | Some([]) => format!("{}\n", printable(&done.message)),
        Some(all) => all.iter().map(in_lines).collect(),
    }
}

fn key_change(it: &diff::KeyChange) -> KeyChange {
    KeyChange { key: it.key.clone(), from: it.from.clone(), to: it.to.clone() }
}

/// What a difference does, and below it what becomes of each key.
fn in_lines(it: &Difference) -> String {
    let shown = |it: &Option<String>| it.as_deref().map_or("(none)".into(), printable);
    let value = |it: &KeyChange| {
        let (from, to) = (shown(&it.from), shown(&it.to));
        format!("{:18} {}: {from} → {to}\n", "", printable(&it.key))
    };
    let message = format!("{:16} {}\n", it.name, printable(&it.message));
    std::iter::once(message).chain(it.values.iter().map(value)).collect()
}

fn print(text: &str) -> Outcome {
    out(text).map_err(|err| unprinted(&err))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_told_in_a_line_for_each_change() {
        let line = |name: &str, message: &str| Difference {
            name: name.into(),
            message: message.into(),
            ..Difference::default()
        };
        let message = "queue: starts; cron: stops".to_owned();
        let all = vec![line("queue", "starts"), line("cron", "stops")];
        let done = Done { message, diff: Some(all), ..Done::default() };
        assert_eq!(applied(&done), "queue            starts\ncron             stops\n");
        let all = done.diff.clone().unwrap_or_default();
        assert_eq!(shown(&all, false).ok(), Some(applied(&done)));
        let json: Vec<Difference> = serde_json::from_str(&shown(&all, true).unwrap()).unwrap();
        assert_eq!(json, all, "as the API has it");
        assert_eq!(shown(&[], false).unwrap(), "no difference\n");
        assert_eq!(shown(&[], true).unwrap(), "[]\n");
        let nothing = Done { message: "nothing to do".into(), ..Done::default() };
        assert_eq!(applied(&nothing), "nothing to do\n");
        assert_eq!(applied(&Done { diff: Some(vec![]), ..nothing }), "nothing to do\n");
    }
}
