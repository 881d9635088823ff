//! File paths as the Go package `path/filepath` handles them.

/// The last element of a path: `filepath.Base`.
pub fn base_name(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { &trimmed[trimmed.rfind('/').map_or(0, |at| at + 1)..] }
}

/// The shortest equivalent path: `filepath.Clean`.
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn paths_are_cleaned_like_go() {
        let cleaned: Vec<_> = ["a//b/../c/.", "/../a", "", "../a/..", "/"].map(clean_path).into();
        assert_eq!(cleaned, ["a/c", "/a", ".", "..", "/"]);
        assert_eq!(["/a/b/", "", "/", "c"].map(base_name), ["b", ".", "/", "c"]);
    }
}
