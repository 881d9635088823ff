//! Notices that a linked list of the target leads back to itself, in constant memory (Brent's
//! algorithm).
//!
//! Not here: any particular list.

use crate::addr::RuntimeAddr;

/// Follows a list.
#[derive(Debug, Default)]
pub struct Circle {
    /// An earlier element, to which the list must not return.
    mark: Option<RuntimeAddr>,
    steps: u64,
    next_mark: u64,
}

impl Circle {
    /// Takes the next element. True if the list has returned to an earlier one; a circle is noticed
    /// after at most three times its length.
    pub fn closes_at(&mut self, at: RuntimeAddr) -> bool {
        if self.mark == Some(at) {
            return true;
        }
        if self.steps == self.next_mark {
            self.mark = Some(at);
            self.next_mark = (self.next_mark * 2).max(1);
        }
        self.steps += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps until a list of `tail` elements and then a circle of `length` is found to be circular.
    fn steps(tail: u64, length: u64) -> u64 {
        let mut circle = Circle::default();
        let element = |step: u64| if step < tail { step } else { tail + (step - tail) % length };
        (0..).find(|step| circle.closes_at(RuntimeAddr(element(*step)))).expect("it ends")
    }

    #[test]
    fn every_circle_is_noticed_soon() {
        for tail in 0..40 {
            for length in 1..40 {
                assert!(steps(tail, length) <= 3 * (tail + length) + 3, "{tail} {length}");
            }
        }
    }

    #[test]
    fn a_list_without_a_circle_never_closes() {
        let mut circle = Circle::default();
        assert!(!(0..10_000).any(|at| circle.closes_at(RuntimeAddr(at))));
    }
}
