//! A flame graph as an HTML page: the picture, its style and its script. A content security policy
//! in the page allows only this style and script, by their hashes. So no other code runs, whatever
//! the names in a profile contain, and nothing is fetched or sent.
//!
//! Not here: the picture ([`super::svg`]).

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use super::{
    Heading,
    layout::Layout,
    svg::{self, Host, SCRIPT, STYLE, Xml},
};
use crate::report::stacks::Stacks;

/// The style of the page around the picture.
const PAGE_STYLE: &str = "html, body { margin: 0; padding: 0; } svg { display: block; }\n\
    @media (prefers-color-scheme: dark) { body { background: #16191f; } }\n";

pub(super) fn write(
    stacks: &Stacks<'_>,
    layout: &Layout,
    heading: &Heading,
    width_px: f64,
    mut out: impl Write,
) -> io::Result<()> {
    let style = format!("\n{PAGE_STYLE}{STYLE}");
    let script = format!("\n{SCRIPT}");
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; script-src '{}'; \
         base-uri 'none'; form-action 'none'\">",
        hash(&style),
        hash(&script)
    )?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width\">")?;
    writeln!(out, "<title>{}</title>\n<style>{style}</style>\n</head>\n<body>", Xml(&heading.title))?;
    svg::write(stacks, layout, heading, width_px, Host::Page, &mut out)?;
    writeln!(out, "<script>{script}</script>\n</body>\n</html>")?;
    out.flush()
}

/// The hash of a script or style for a policy
/// (<https://www.w3.org/TR/CSP3/#grammardef-hash-source>).
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_match_the_specification() {
        // The example in CSP level 3, section 8.
        let expected = "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=";
        assert_eq!(hash("alert('Hello, world.');"), expected);
    }
}
