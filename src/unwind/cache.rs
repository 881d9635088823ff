//! Compiled rules by file and address, in bounded memory, with one probe a frame.
//!
//! Programs have far fewer distinct rules than addresses, so a slot holds only the number of its
//! rule, and equal rules are stored once.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use super::rule::Rule;

const SLOT_BITS: u32 = 14;
/// No real program has more distinct rules; a crafted one causes the cache to be cleared.
const MAX_RULES: usize = 4096;

/// The key of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// [`super::UnwindTables::id`]; never 0.
    pub tables: u32,
    /// The ELF address of the lookup.
    pub elf_addr: u64,
    /// The address is that of an instruction itself, not derived from a return address.
    pub exact: bool,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    elf_addr: u64,
    /// The tables' ID and, as the lowest bit, whether the address was exact; 0: free.
    owner: u32,
    rule: u32,
}

pub(super) struct RuleCache {
    slots: Box<[Slot]>,
    rules: Vec<Rule>,
    numbers: FxHashMap<Rule, u32>,
}

impl RuleCache {
    pub fn new() -> RuleCache {
        RuleCache {
            slots: vec![Slot::default(); 1 << SLOT_BITS].into(),
            rules: Vec::new(),
            numbers: FxHashMap::default(),
        }
    }

    /// The rule stored under `key`, or the result of `make`.
    #[inline]
    pub fn get(&mut self, key: Key, make: impl FnOnce() -> Rule) -> &Rule {
        let owner = key.tables << 1 | u32::from(key.exact);
        let hash = (key.elf_addr ^ u64::from(owner).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = (hash >> (64 - SLOT_BITS)) as usize;
        let slot = self.slots[index];
        if slot.owner == owner && slot.elf_addr == key.elf_addr {
            return &self.rules[slot.rule as usize];
        }
        let rule = self.number(make());
        self.slots[index] = Slot { elf_addr: key.elf_addr, owner, rule };
        &self.rules[rule as usize]
    }

    fn number(&mut self, rule: Rule) -> u32 {
        if self.rules.len() >= MAX_RULES {
            self.slots.fill(Slot::default());
            self.rules.clear();
            self.numbers.clear();
        }
        match self.numbers.entry(rule) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let number = self.rules.len() as u32;
                self.rules.push(new.key().clone());
                *new.insert(number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::rule::{Cfa, FullRule};

    fn numbered(number: u64) -> Rule {
        Rule::Full(Box::new(FullRule {
            cfa: Cfa::RegisterPlus(7, number as i64),
            sources: Box::new([]),
            return_column: 16,
            is_signal_frame: false,
        }))
    }

    #[test]
    fn a_rule_is_made_once_for_each_file_address_and_exactness() {
        let mut cache = RuleCache::new();
        let key = Key { tables: 1, elf_addr: 0x1000, exact: false };
        assert_eq!(*cache.get(key, || numbered(1)), numbered(1));
        assert_eq!(*cache.get(key, || unreachable!("it is cached")), numbered(1));
        assert_eq!(*cache.get(Key { exact: true, ..key }, || numbered(2)), numbered(2));
        assert_eq!(*cache.get(Key { tables: 2, ..key }, || numbered(3)), numbered(3));
    }

    #[test]
    fn the_number_of_stored_rules_is_bounded() {
        let mut cache = RuleCache::new();
        for number in 0..20_000 {
            let key = Key { tables: 1, elf_addr: number, exact: false };
            assert_eq!(*cache.get(key, || numbered(number)), numbered(number));
        }
        assert!(cache.rules.len() <= MAX_RULES);
    }
}
