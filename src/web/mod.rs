//! Profiles in a browser: pages, and the data that the pages request.
//!
//! ```text
//! Request ► route (page, asset or data) ► settings (from the parameters) ► reports ► Response
//! ```
//!
//! `report` computes everything that is shown; this module selects and sends it. The pages are
//! plain JavaScript modules and style sheets in `assets/`, embedded as they are. Not here: sockets
//! and access control (`serve`), reading files and programs (`cli` passes the functions in
//! [`Tools`]).

mod assets;
mod configs;
mod data;
mod flame;
mod frames;
mod prepared;
mod profiles;
mod query;
mod response;
mod search;
mod site;
mod threads;
mod timeline;
mod times;
mod tree;

pub use profiles::{Offered, Read};
pub use response::{DataError, Request, Response};
pub use site::{Draw, Site, Tools};

/// Scripts and styles come only from this server; inline ones are forbidden.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
     data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests;
