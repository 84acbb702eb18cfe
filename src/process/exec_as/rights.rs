//! Takes capabilities away, and keeps the others over a change of the user (capabilities(7)).

use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_bounding_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities,
};

use super::ExecAsError;

/// Before the change of the user, which takes the right to do this.
///
/// What leaves the bounding set comes back with no program that is executed from here on.
pub(super) fn bound(kept: &[(String, u8)]) -> Result<(), ExecAsError> {
    let wanted = set(kept);
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !wanted.contains(one) => {
                remove_capability_from_bounding_set(one).map_err(call("take capabilities away"))?;
            }
            Ok(_) => {}
            // This kernel has no more of them.
            Err(_) => break,
        }
    }
    if wanted.is_empty() { Ok(()) } else { set_keep_capabilities(true).map_err(call(KEEP)) }
}

/// After it: as another user than root a program has what is ambient; root itself has all that the
/// bounding set leaves it.
pub(super) fn keep(kept: &[(String, u8)]) -> Result<(), ExecAsError> {
    let wanted = set(kept);
    let mut sets = capabilities(None).map_err(call(KEEP))?;
    if let Some((name, _)) = kept.iter().find(|(_, it)| !sets.permitted.contains(one(*it))) {
        return Err(ExecAsError::Capability { name: name.clone() });
    }
    sets.permitted &= wanted;
    sets.effective = sets.permitted;
    sets.inheritable = wanted;
    set_capabilities(None, sets).map_err(call(KEEP))?;
    for (_, number) in kept {
        configure_capability_in_ambient_set(one(*number), true).map_err(call(KEEP))?;
    }
    Ok(())
}

const KEEP: &str = "keep capabilities";

fn one(number: u8) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

fn set(kept: &[(String, u8)]) -> CapabilitySet {
    kept.iter().fold(CapabilitySet::empty(), |all, (_, it)| all | one(*it))
}

fn call(what: &'static str) -> impl Fn(rustix::io::Errno) -> ExecAsError {
    move |errno| ExecAsError::Call { what, errno: errno.raw_os_error() }
}
