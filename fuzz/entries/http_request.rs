//! Any text as the path and query of an HTTP request to `rprof serve`.

use rprof::serve::parse_any_request;

/// See the module.
pub fn run(bytes: &[u8]) {
    parse_any_request(&String::from_utf8_lossy(bytes));
}
