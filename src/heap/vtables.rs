//! C++ classes by their tables of virtual functions.

use std::collections::HashMap;

use super::{
    Target,
    type_name::{Certainty, TypeName},
};
use crate::{process::Mapping, symbolize::demangle, text::path::base_name};

/// The longest name of a type that is read, in bytes.
const MAX_NAME: usize = 1023;
/// How far in front of the object a base class's part may begin, in bytes.
const MAX_OFFSET: i64 = 1 << 20;
/// The most symbols of tables in a module.
const MAX_SYMBOLS: usize = 1 << 20;
/// What symbols of tables begin with.
const TABLE_PREFIX: &[u8] = b"_ZTV";

/// Finds classes in a process.
pub struct Vtables<'t> {
    target: &'t Target,
    /// The symbols of tables of each module, by run-time address; read when one is needed.
    symbols: HashMap<String, HashMap<u64, String>>,
}

impl<'t> Vtables<'t> {
    /// Finds classes in this process.
    pub fn new(target: &'t Target) -> Vtables<'t> {
        Vtables { target, symbols: HashMap::new() }
    }

    /// The class whose table is at this address. `None`: it is not in the data of a module;
    /// `Some(None)`: it is, and there is no table.
    pub fn class_of(&mut self, table: u64) -> Option<Option<TypeName>> {
        let module = self.target.space.module(table)?.clone();
        if self.target.space.find(table)?.executable {
            return Some(None);
        }
        Some(self.class_in(table, &module))
    }

    fn class_in(&mut self, table: u64, module: &Mapping) -> Option<TypeName> {
        let words = self.target.memory.words(table.checked_sub(16)?, 3);
        let &[offset, information, function] = words.as_slice() else { return None };
        let is_table = (-MAX_OFFSET..=0).contains(&(offset as i64)) && self.is_code(function);
        if !is_table {
            return None;
        }
        let named = |text| TypeName { text, certainty: Certainty::Named, module: module.path.clone() };
        if let Some(text) = self.name_of(information) {
            return Some(named(text));
        }
        if information != 0 {
            return None;
        }
        if let Some(symbol) = self.symbols_of(module).get(&(table - 16)) {
            return Some(named(symbol.clone()));
        }
        // It may be a table of functions of another kind.
        let next = self.target.memory.word(table + 8)?;
        let text = format!("~vtable {}+{:#x}", base_name(&module.path), table - module.start.0);
        self.is_code(next).then(|| TypeName {
            text,
            certainty: Certainty::Shape,
            module: module.path.clone(),
        })
    }

    fn is_code(&self, address: u64) -> bool {
        self.target.space.find(address).is_some_and(|mapping| mapping.executable)
    }

    /// The name in a `std::type_info`: its second word.
    fn name_of(&self, information: u64) -> Option<String> {
        let in_module = |address: u64| self.target.space.module(address).is_some();
        if information & 7 != 0 || !in_module(information) {
            return None;
        }
        let at = self.target.memory.word(information.checked_add(8)?)?;
        if !in_module(at) {
            return None;
        }
        let mut bytes = vec![0; MAX_NAME + 1];
        let read = self.target.memory.read(at, &mut bytes);
        let end = bytes[..read].iter().position(|byte| *byte == 0)?;
        // Names that are compared by address begin with an asterisk.
        let name = bytes[..end].strip_prefix(b"*").unwrap_or(&bytes[..end]);
        let name = std::str::from_utf8(name).ok()?;
        let is_mangled = name.starts_with(|c: char| c.is_ascii_digit() || "NSIZPU".contains(c));
        (is_mangled && name.bytes().all(|byte| byte.is_ascii_graphic())).then(|| demangled(name)).flatten()
    }

    fn symbols_of(&mut self, module: &Mapping) -> &HashMap<u64, String> {
        let target = self.target;
        self.symbols
            .entry(module.path.clone())
            .or_insert_with(|| table_symbols(target, module).unwrap_or_default())
    }
}

/// The class of a mangled type name.
fn demangled(name: &str) -> Option<String> {
    let text = demangle(&format!("_ZTS{name}"));
    text.strip_prefix("typeinfo name for ").map(str::to_owned)
}

fn table_symbols(target: &Target, module: &Mapping) -> Option<HashMap<u64, String>> {
    let (elf, bias) = target.elf(module)?;
    let mut found = HashMap::new();
    for table in elf.symbol_tables() {
        let tables = table.defined_symbols().filter(|symbol| symbol.name.starts_with(TABLE_PREFIX));
        for symbol in tables.take(MAX_SYMBOLS) {
            let name = demangle(&String::from_utf8_lossy(symbol.name));
            if let Some(class) = name.strip_prefix("vtable for ") {
                found.insert(symbol.address.0.wrapping_add(bias), class.to_owned());
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_demangled_and_other_texts_are_not_names() {
        assert_eq!(demangled("N3app7SessionE").as_deref(), Some("app::Session"));
        assert_eq!(demangled("5CacheIiE").as_deref(), Some("Cache<int>"));
        assert_eq!(demangled("hello"), None);
    }
}
