//! Checks whether the tables of a profile are consistent, in the reference's order and with its
//! messages.
//!
//! Not here: the samples, which are checked when they are decoded.

use super::{
    Columns, NONE,
    rows::{Distinct, are_in_order},
};

/// Returns the message for the first fault, if any.
pub fn check(columns: &Columns) -> Result<(), String> {
    if columns.header.kinds.is_empty() && columns.sample_count() > 0 {
        return Err("missing sample type information".into());
    }
    let mut seen = Distinct::new(columns.mappings.len());
    for mapping in &columns.mappings {
        if mapping.id == 0 {
            return Err("found mapping with reserved ID=0".into());
        }
        if !seen.insert(mapping.id) {
            return Err(format!("multiple mappings with same id: {}", mapping.id));
        }
    }
    let are_distinct = are_in_order(columns.functions.iter().map(|function| function.id));
    let mut seen = Distinct::new(if are_distinct { 0 } else { columns.functions.len() });
    for function in columns.functions.iter().filter(|_| !are_distinct) {
        if function.id == 0 {
            return Err("found function with reserved ID=0".into());
        }
        if !seen.insert(function.id) {
            return Err(format!("multiple functions with same id: {}", function.id));
        }
    }
    let are_distinct = are_in_order(columns.locations.iter().map(|location| location.id));
    let mut seen = Distinct::new(if are_distinct { 0 } else { columns.locations.len() });
    for location in &columns.locations {
        if location.id == 0 {
            return Err("found location with reserved id=0".into());
        }
        if !are_distinct && !seen.insert(location.id) {
            return Err(format!("multiple locations with same id: {}", location.id));
        }
        if columns.lines_of(location).iter().any(|line| line.function == NONE) {
            return Err(format!("location id: {} has a line with nil function", location.id));
        }
    }
    Ok(())
}
