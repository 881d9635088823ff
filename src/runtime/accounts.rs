//! A profile that a runtime keeps itself (allocations, contention), as an instance returns it,
//! whatever the language.
//!
//! Not here: how it is read, the profile's file.

use super::TaskFrame;
use crate::budget::Exhausted;

/// A value of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountValue {
    /// A text.
    Text(String),
    /// A number and its unit.
    Number(i64, &'static str),
}

/// A file with code, as profiles describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeMapping {
    /// First run-time address of its code.
    pub start: u64,
    /// End address, exclusive.
    pub limit: u64,
    /// Offset of `start` in the file, in bytes.
    pub file_offset: u64,
    /// The path in the process's mount namespace.
    pub path: String,
    /// Build ID in hexadecimal; empty: none.
    pub build_id: String,
}

/// One stack of an account.
#[derive(Clone, Debug, Default)]
pub struct AccountSample {
    /// The stack, leaf first.
    pub frames: Vec<TaskFrame>,
    /// One value per sample type.
    pub values: Vec<i64>,
    /// Labels.
    pub labels: Vec<(&'static str, AccountValue)>,
}

/// A profile that a runtime keeps itself.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The sample types: type and unit.
    pub sample_types: Vec<(&'static str, &'static str)>,
    /// The type that tools show first; empty: the last one.
    pub default_sample_type: &'static str,
    /// The type, unit and amount between two samples.
    pub period: (&'static str, &'static str, i64),
    /// The stacks.
    pub samples: Vec<AccountSample>,
    /// The files that the frames' mappings number.
    pub mappings: Vec<CodeMapping>,
    /// Records that the runtime had.
    pub records: usize,
    /// How it was counted, `key: value`.
    pub comments: Vec<String>,
    /// What is missing or uncertain: a sentence each.
    pub warnings: Vec<String>,
    /// Why further records are missing, if so.
    pub limit: Option<Exhausted>,
}
