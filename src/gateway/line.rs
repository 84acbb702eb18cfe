//! Requests that wait until an instance is admitted, in the order in which they came.
//!
//! Whoever is called and finds nobody keeps its number, and so its place.

use std::collections::BTreeMap;
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Line {
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Line {
    /// Draws a number.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Waits, or goes on waiting, until called.
    pub(super) fn wait(&mut self, number: u64, waker: &Waker) {
        self.waiting
            .entry(number)
            .and_modify(|it| it.clone_from(waker))
            .or_insert_with(|| waker.clone());
    }

    /// False once it was called.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        self.waiting.contains_key(&number)
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// Calls the one that has waited longest.
    pub(super) fn call_first(&mut self) {
        if let Some((_, waker)) = self.waiting.pop_first() {
            waker.wake();
        }
    }

    /// Calls all, in their order.
    pub(super) fn call_all(&mut self) {
        for (_, waker) in std::mem::take(&mut self.waiting) {
            waker.wake();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Named(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    fn joined(line: &mut Line, woken: &Arc<Mutex<Vec<u64>>>, count: u64) {
        for _ in 0..count {
            let number = line.number();
            line.wait(number, &Waker::from(Arc::new(Named(number, woken.clone()))));
        }
    }

    #[test]
    fn all_are_called_in_the_order_of_their_coming() {
        let (mut line, woken) = (Line::default(), Arc::default());
        joined(&mut line, &woken, 3);
        line.call_all();
        assert_eq!(*woken.lock().unwrap(), [1, 2, 3]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn the_first_that_found_nobody_is_still_the_first() {
        let (mut line, woken) = (Line::default(), Arc::default());
        joined(&mut line, &woken, 2);
        line.call_first();
        assert!(!line.is_waiting(1) && line.is_waiting(2));
        line.wait(1, &Waker::from(Arc::new(Named(1, woken.clone()))));
        line.call_all();
        assert_eq!(*woken.lock().unwrap(), [1, 1, 2]);
    }

    #[test]
    fn who_leaves_is_not_called() {
        let (mut line, woken) = (Line::default(), Arc::default());
        joined(&mut line, &woken, 2);
        line.leave(1);
        line.call_first();
        assert_eq!(*woken.lock().unwrap(), [2]);
    }
}
