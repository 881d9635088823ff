//! Text formats that several modules share: Go's, HTML and paths. Knows nothing of profiles.

pub mod go;
pub mod html;
pub mod path;
