//! What `rprof --version` reports.

/// The release.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// The release, the commit and its date, the build target, and the features.
pub fn long() -> String {
    let commit = match (env!("RPROF_BUILD_COMMIT"), env!("RPROF_BUILD_DATE")) {
        ("", _) => "not recorded by this build".to_owned(),
        (commit, "") => commit.to_owned(),
        (commit, date) => format!("{commit} ({date})"),
    };
    let linked = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    let checks = if cfg!(debug_assertions) { ", debug assertions" } else { "" };
    let target = env!("RPROF_BUILD_TARGET");
    format!(
        "{SHORT}\ncommit:   {commit}\ntarget:   {target}, {linked}{checks}\n\
         features: BPF, debuginfod, TLS, Graphviz, browser pages, documents"
    )
}
