//! Any bytes as texts of /proc: stat, syscall, mountinfo, maps. The target chooses names in them.

use rprof::process::parse_any_text;

/// See the module.
pub fn run(bytes: &[u8]) {
    parse_any_text(bytes);
}
