//! Text formats that several modules share: counts, Go's formats, HTML and paths. It does not know
//! profiles.

mod count;
pub mod go;
pub mod html;
pub mod path;

pub use count::{counted, counted_as};
