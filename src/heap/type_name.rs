//! Names of types, and how certain they are.

/// How certain the name of a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// The program itself names it.
    Named,
    /// The content looks like it.
    Shape,
    /// Nothing is known.
    Unknown,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// As reports show it.
    pub text: String,
    /// How certain it is.
    pub certainty: Certainty,
    /// The path of the module that defines it; may be empty.
    pub module: String,
}

/// The number of a type within [`Types`].
pub type TypeId = u32;
