//! Since when there is no logger, and whether that was told.

use std::time::Duration;

use crate::fleet::Timestamp;

/// One that is started again sooner is no event: nobody has waited for it.
const LONG: Duration = Duration::from_secs(1);

/// A time without a logger; by default there is none.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Timestamp>,
    is_told: bool,
}

impl Outage {
    /// There is still none. Whether it is to be told now.
    pub fn goes_on(&mut self, now: Timestamp) -> bool {
        let since = *self.since.get_or_insert(now);
        let tells = !self.is_told && now.since(since) >= LONG;
        self.is_told |= tells;
        tells
    }

    /// There is one. Whether that is to be told.
    pub fn ends(&mut self) -> bool {
        std::mem::take(self).is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let at = |millis| Timestamp(Duration::from_millis(millis));
        let mut it = Outage::default();
        assert!(!it.ends());
        assert!(!it.goes_on(at(100)) && !it.goes_on(at(1_000)));
        assert!(!it.ends());
        assert!(!it.goes_on(at(1_200)) && it.goes_on(at(2_200)) && !it.goes_on(at(9_000)));
        assert!(it.ends() && !it.ends());
    }
}
