//! Text formats that several modules share: counts, Go's formats, HTML, paths and shell words. It
//! does not know profiles.

mod count;
pub mod go;
pub mod html;
pub mod path;
pub mod shell;

pub use count::{counted, counted_as};
