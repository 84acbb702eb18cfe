//! Before what runs is taken down to come back: whether it could start again.
//!
//! A start that must fail can be known before: a name without a value, a program, a directory or a user that is
//! not there. It is refused while the old process still serves.

use crate::config::placeholder;
use crate::config::settings::{Launch, Service};
use crate::daemon::driver::Daemon;
use crate::daemon::hands::Hands;
use crate::daemon::life::launch::{Values, account};
use crate::daemon::runs::no_value;
use crate::fleet::input::{Goal, Order, Refusal, RefusalKind, Verb};
use crate::fleet::{Name, Signal};
use crate::process::spawn::look_ahead;

/// Why a rolling restart makes no sense with what was given to it.
struct Objection {
    why: String,
    help: Option<String>,
}

impl Daemon {
    /// Refuses an order that would take away what cannot come back.
    pub(in crate::daemon) fn foresee(&self, order: &Order) -> Option<Refusal> {
        match &order.verb {
            Verb::Roll { service, set } => {
                let Objection { why, help } = self.foresee_roll(service, set)?;
                Some(refusal(format!("{service} was not rolled"), why, help))
            }
            Verb::Restart(name) => {
                let why = self.hands.cannot_return(name)?;
                Some(refusal(format!("{name} was not restarted"), why, None))
            }
            Verb::RestartService(service) => {
                let sheet = self.fleet.service_sheet(service.as_str())?;
                let why = sheet.instances.iter().find_map(|it| self.hands.cannot_return(&it.name));
                Some(refusal(format!("{service} was not restarted"), why?, None))
            }
            Verb::Signal { instance, signal: Some(Signal::TERM), .. } if order.guard => {
                let sheet = self.fleet.instance_sheet(instance.as_str())?;
                let why = self.hands.cannot_return(instance).filter(|_| sheet.goal == Goal::Up)?;
                let what = format!("SIGTERM was not sent to {instance}");
                Some(Refusal { kind: RefusalKind::Confirm, what, why, help: None })
            }
            _ => None,
        }
    }

    /// Why this plan must fail, if that is known before it begins.
    pub(in crate::daemon) fn foresee_plan(&self, service: &str, set: &Values) -> Option<String> {
        self.foresee_roll(&service.into(), set).map(|it| match it.help {
            Some(help) => format!("{}; {help}", it.why),
            None => it.why,
        })
    }

    fn foresee_roll(&self, service: &Name, set: &Values) -> Option<Objection> {
        let plan = self.fleet.plan(service.as_str()).ok().filter(|it| it.blocked.is_none())?;
        let settings = self.hands.service(service)?;
        let values = self.hands.values_with(service.as_str(), set.clone());
        useless_value(settings, set).or_else(|| {
            // What does not run loses nothing by a try.
            let mut runs =
                plan.steps.iter().filter(|it| self.hands.living.contains_key(&it.instance));
            let why = runs.find_map(|it| self.hands.hindrance(&it.instance, &values, false))?;
            Some(Objection { why, help: None })
        })
    }
}

impl Hands {
    /// Why an instance that runs could not start again as it is now.
    fn cannot_return(&self, name: &Name) -> Option<String> {
        let known = self.known.get(name).filter(|_| self.living.contains_key(name))?;
        self.hindrance(name, &self.values.of(&known.service, name), true)
    }

    /// After the last build for an instance: why it could not start all the same.
    pub(in crate::daemon) fn still_hindered(
        &self,
        service: &Name,
        instance: &Name,
    ) -> Option<String> {
        self.hindrance(instance, &self.values.of_service(service), true)
    }

    /// Why the next start with these values must fail. `built`: no build comes before it that may bring what
    /// is not there.
    fn hindrance(&self, name: &Name, values: &Values, built: bool) -> Option<String> {
        let known = self.known.get(name).filter(|_| !self.is_foreign(name))?;
        let (service, launch) = (&known.service, &known.settings.launch);
        let argv: Result<Vec<_>, _> = launch.argv.iter().map(|it| it.expand(values)).collect();
        let argv = match argv {
            Ok(argv) => argv,
            Err(missing) => return Some(in_vain(name, &no_value(service, &missing))),
        };
        let environment = match self.environment(name, known, values) {
            Ok(environment) => environment,
            Err(trouble) => return Some(in_vain(name, &trouble.reason)),
        };
        if !built && self.service(service).is_some_and(|it| !it.build.is_empty()) {
            return None;
        }
        let search = environment.iter().find(|(name, _)| name == "PATH").map(|(_, it)| &**it);
        let program = argv.first().map_or("", String::as_str);
        let found = look_ahead(program, search, launch.directory.as_deref());
        let why = unknown_user(launch).or_else(|| Some(found.err()?.to_string()))?;
        Some(in_vain(name, &why))
    }
}

fn in_vain(name: &Name, why: &str) -> String {
    format!("{name} could not start again: {why}")
}

/// A number needs no account.
fn unknown_user(launch: &Launch) -> Option<String> {
    let user = launch.user.as_deref()?;
    let is_number = user.split(':').next()?.parse::<u32>().is_ok();
    (!is_number && account(user).is_none()).then(|| format!("this host has no user {user}"))
}

/// A value that nothing of the service uses: a slip of the pen, which would roll everything for nothing.
fn useless_value(service: &Service, set: &Values) -> Option<Objection> {
    let used = placeholder::names_of_set(service);
    let name = set.keys().find(|it| !used.contains(*it))?;
    let (title, used) = (&service.rules.name, used.iter().map(String::as_str).collect::<Vec<_>>());
    if placeholder::BUILT_IN.contains(&name.as_str()) {
        let why = format!("`{name}` has its value from the configuration of {title}");
        return Some(Objection { why, help: Some("give the value another name".into()) });
    }
    let help = match &used[..] {
        [] => format!("write `{{{name}}}` where the value belongs, and apply that"),
        names => placeholder::suggestion(name, names),
    };
    Some(Objection { why: format!("nothing of {title} uses `{name}`"), help: Some(help) })
}

fn refusal(what: String, why: String, help: Option<String>) -> Refusal {
    Refusal { kind: RefusalKind::Refused, what, why, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_nothing_uses_is_a_slip() {
        let text = "[service.web]\ncommand = \"web {version}\"\nrollout.build = [\"get {tag}\"]\n\
                    [service.plain]\ncommand = \"true\"\n";
        let settings = crate::config::parse("config.toml", text).expect("no mistakes");
        let told = |service: usize, name: &str| {
            let set = Values::from([(name.to_owned(), "2".to_owned())]);
            let objection = useless_value(&settings.services[service], &set);
            objection.map(|it| format!("{}; {}", it.why, it.help.unwrap_or_default()))
        };
        assert_eq!(told(0, "version"), None);
        assert_eq!(told(0, "tag"), None);
        let slip = told(0, "verison").expect("a refusal");
        assert_eq!(slip, "nothing of web uses `verison`; did you mean `version`?");
        let other = told(0, "colour").expect("a refusal");
        assert_eq!(other, "nothing of web uses `colour`; the names here are tag, version");
        assert!(told(0, "port").expect("a refusal").starts_with("`port` has its value from"));
        assert!(
            told(1, "version")
                .expect("a refusal")
                .ends_with("`{version}` where the value belongs, and apply that")
        );
    }
}
