//! For the tests of what stands in front.

use crate::fleet::Name;
use crate::fleet::input::Input;

pub(super) fn name(name: &str) -> Name {
    Name::from(name)
}

/// What the fleet hears, in words.
pub(super) fn told(inputs: &[Input]) -> Vec<String> {
    let line = |it: &Input| match it {
        Input::Load { instance, in_flight, .. } => format!("{instance} {in_flight:?}"),
        Input::TakenOut { instance } => format!("{instance} is out"),
        Input::NotTakenOut { instance, why } => format!("{instance} is not out: {why}"),
        other => format!("{other:?}"),
    };
    inputs.iter().map(line).collect()
}
