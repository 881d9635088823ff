//! Removes private data from profiles and texts: paths under home directories, the values of chosen
//! labels, and given texts such as command-line arguments.
//!
//! Paths become `/redacted/1`, `/redacted/2` …: different paths stay different. Other texts become
//! `[redacted]`. Build IDs, addresses and names of functions stay. Not here: files and archives
//! (`cli`).

use std::collections::HashMap;

use regex::{Captures, Regex};

use super::proto::{Label, Profile};

/// The text that replaces a removed one.
pub const REDACTED: &str = "[redacted]";
/// Shorter texts are not searched for: they would match everywhere.
const MIN_SECRET_BYTES: usize = 3;
/// Shorter texts are removed only as whole words.
const MIN_UNBOUNDED_BYTES: usize = 6;
/// Home directories on every system.
const HOMES: [&str; 4] = [r"(?:/var)?/home/[^/\s]+", r"/Users/[^/\s]+", r"/root", r"/export/home/[^/\s]+"];
/// The characters that end a path in running text.
const PATH_END: &str = r#"\s"'`<>()\[\]{},;:|"#;

/// Removes private data. All texts of one redactor get the same replacements.
pub struct Redactor {
    labels: Vec<String>,
    /// A home directory at the beginning of a path.
    home: Regex,
    /// A path in running text, and one that ends with its line.
    path_in_text: Regex,
    path_in_line: Regex,
    /// Texts to remove, the longest first.
    secrets: Vec<String>,
    paths: HashMap<String, usize>,
    /// Those of them with blanks, the longest first.
    spaced: Vec<String>,
}

/// What a string of a profile is.
#[derive(Clone, Copy)]
enum Use {
    /// Types, units, keys, build IDs.
    Verbatim,
    /// The path of a file.
    Path,
    /// The name of a function.
    Name,
    /// A comment or the value of a label.
    Text,
}

impl Redactor {
    /// A redactor that removes these labels, and paths under the usual home directories and
    /// `homes`.
    pub fn new(labels: Vec<String>, homes: &[String]) -> Redactor {
        let own = homes.iter().map(|home| regex::escape(home.trim_end_matches('/')));
        let homes: Vec<String> = HOMES.iter().map(|home| (*home).to_owned()).chain(own).collect();
        let home = format!("(?:{})", homes.join("|"));
        let regex = |pattern: String| Regex::new(&pattern).expect("escaped and tested");
        Redactor {
            labels,
            home: regex(format!(r"^(?:/proc/[^/]+/root)?{home}(?:/|$)")),
            path_in_text: regex(format!(r"{home}(?:/[^{PATH_END}]*)")),
            path_in_line: regex(format!(r"{home}/[^\n]*")),
            secrets: Vec::new(),
            paths: HashMap::new(),
            spaced: Vec::new(),
        }
    }

    /// Adds a text to remove. Texts of less than three bytes are ignored.
    pub fn add_secret(&mut self, text: &str) {
        let text = text.trim();
        if text.len() < MIN_SECRET_BYTES || self.secrets.iter().any(|known| known == text) {
            return;
        }
        let at = self.secrets.partition_point(|known| known.len() >= text.len());
        self.secrets.insert(at, text.to_owned());
    }

    /// Adds an argument of a command line to remove, and the value of `--name=value`.
    pub fn add_argument(&mut self, argument: &str) {
        self.add_secret(argument);
        if let Some((_, value)) = argument.split_once('=') {
            self.add_secret(value);
        }
    }

    /// Adds the values of the chosen labels and the private paths of a profile as texts to remove.
    pub fn learn(&mut self, profile: &Profile) {
        let chosen = profile.sample.iter().flat_map(|sample| &sample.label);
        let chosen = chosen.filter(|label| self.is_removed(profile, label) && label.str != 0);
        let mut values: Vec<i64> = chosen.map(|label| label.str).collect();
        values.sort_unstable();
        values.dedup();
        values.iter().for_each(|value| self.add_secret(profile.string(*value)));
        let files = profile.mapping.iter().map(|mapping| mapping.filename);
        for file in files.chain(profile.function.iter().map(|function| function.filename)) {
            self.path(profile.string(file));
        }
    }

    fn is_removed(&self, profile: &Profile, label: &Label) -> bool {
        self.labels.iter().any(|key| key == profile.string(label.key))
    }

    /// Whether an object key, as in JSON, is a chosen label.
    pub fn is_chosen(&self, key: &str) -> bool {
        self.labels.iter().any(|label| label == key)
    }

    /// The number of different private paths that were replaced.
    pub fn path_count(&self) -> usize {
        self.paths.len()
    }

    /// The path itself, or its replacement if it is under a home directory.
    fn path(&mut self, path: &str) -> String {
        if !self.home.is_match(path) {
            return path.to_owned();
        }
        let next = self.paths.len() + 1;
        let is_new = !self.paths.contains_key(path);
        let replacement = format!("/redacted/{}", self.paths.entry(path.to_owned()).or_insert(next));
        if is_new && path.contains(char::is_whitespace) {
            let at = self.spaced.partition_point(|known| known.len() >= path.len());
            self.spaced.insert(at, path.to_owned());
        }
        replacement
    }

    /// Redacts running text. A path ends at a blank, a quote or a bracket.
    pub fn text(&mut self, text: &str) -> String {
        self.redact(text, |redactor| redactor.path_in_text.clone())
    }

    /// Redacts lines of which a path is the last field, as in /proc/PID/maps.
    pub fn lines(&mut self, text: &str) -> String {
        self.redact(text, |redactor| redactor.path_in_line.clone())
    }

    fn redact(&mut self, text: &str, pattern: impl Fn(&Redactor) -> Regex) -> String {
        let mut text = self.without_secrets(text);
        // Known paths first: they may contain blanks, at which others end.
        for path in self.spaced.iter().filter(|path| text.contains(path.as_str())).collect::<Vec<_>>() {
            text = text.replace(path, &format!("/redacted/{}", self.paths[path]));
        }
        let pattern = pattern(self);
        pattern.replace_all(&text, |found: &Captures<'_>| self.path(&found[0])).into_owned()
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if !text.contains(secret.as_str()) {
                continue;
            }
            text = match secret.len() {
                0..MIN_UNBOUNDED_BYTES => replace_words(&text, secret),
                _ => text.replace(secret.as_str(), REDACTED),
            };
        }
        text
    }

    /// Redacts a profile. Strings that are not used any more are removed from its table.
    pub fn profile(&mut self, profile: &mut Profile) {
        self.learn(profile);
        let removed: Vec<bool> =
            profile.string_table.iter().map(|key| self.labels.iter().any(|label| label == key)).collect();
        let is_removed = |key: i64| usize::try_from(key).ok().and_then(|key| removed.get(key)) == Some(&true);
        profile.sample.iter_mut().for_each(|sample| sample.label.retain(|label| !is_removed(label.key)));
        let old = std::mem::take(&mut profile.string_table);
        let mut table = Table { redactor: self, old, new: vec![String::new()], known: HashMap::new() };
        table.apply(profile);
        profile.string_table = table.new;
    }

    fn string(&mut self, text: &str, usage: Use) -> String {
        match usage {
            Use::Verbatim => text.to_owned(),
            Use::Path => {
                let path = self.path(text);
                if path == text { self.text(text) } else { path }
            }
            // A thread may have the name of a function, which is public.
            Use::Name if self.secrets.iter().any(|secret| secret == text) => text.to_owned(),
            Use::Name | Use::Text => self.text(text),
        }
    }
}

/// The string table while it is rebuilt.
struct Table<'r> {
    redactor: &'r mut Redactor,
    old: Vec<String>,
    new: Vec<String>,
    known: HashMap<String, i64>,
}

impl Table<'_> {
    fn apply(&mut self, profile: &mut Profile) {
        for kind in profile.sample_type.iter_mut().chain(&mut profile.period_type) {
            self.set(&mut kind.r#type, Use::Verbatim);
            self.set(&mut kind.unit, Use::Verbatim);
        }
        for index in [
            &mut profile.drop_frames,
            &mut profile.keep_frames,
            &mut profile.default_sample_type,
            &mut profile.doc_url,
        ] {
            self.set(index, Use::Verbatim);
        }
        profile.comment.iter_mut().for_each(|index| self.set(index, Use::Text));
        for label in profile.sample.iter_mut().flat_map(|sample| &mut sample.label) {
            self.set(&mut label.key, Use::Verbatim);
            self.set(&mut label.str, Use::Text);
            self.set(&mut label.num_unit, Use::Verbatim);
        }
        for mapping in &mut profile.mapping {
            self.set(&mut mapping.filename, Use::Path);
            self.set(&mut mapping.build_id, Use::Verbatim);
        }
        for function in &mut profile.function {
            self.set(&mut function.name, Use::Name);
            self.set(&mut function.system_name, Use::Name);
            self.set(&mut function.filename, Use::Path);
        }
    }

    /// Replaces the index of an old string by that of the redacted one.
    fn set(&mut self, index: &mut i64, usage: Use) {
        let old = usize::try_from(*index).ok().and_then(|index| self.old.get(index));
        let Some(old) = old.filter(|text| !text.is_empty()).cloned() else {
            *index = 0;
            return;
        };
        let text = self.redactor.string(&old, usage);
        let next = self.new.len() as i64;
        *index = *self.known.entry(text).or_insert_with_key(|text| {
            self.new.push(text.clone());
            next
        });
    }
}

/// Replaces a text where no letter or digit is beside it.
fn replace_words(text: &str, word: &str) -> String {
    let is_inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (at, found) in text.match_indices(word) {
        let (before, after) = (text[..at].chars().next_back(), text[at + found.len()..].chars().next());
        out.push_str(&text[end..at]);
        out.push_str(if is_inside(before) || is_inside(after) { found } else { REDACTED });
        end = at + found.len();
    }
    out.push_str(&text[end..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::{Builder, LabelValue, LineSpec, MappingSpec};

    fn profile() -> Profile {
        let mut builder = Builder::new(&[("samples", "count")]);
        let function = builder.function("work", "work", "/home/alice/secret plan/work.c", 1);
        let library = builder.function("memcpy", "memcpy", "/usr/src/memcpy.c", 1);
        let mapping = builder.mapping(&MappingSpec {
            start: 0x1000,
            limit: 0x2000,
            file_offset: 0,
            filename: "/home/alice/bin/app",
            build_id: "abc",
            symbolized: true,
        });
        let line = |function| LineSpec { function, line: 1, column: 0 };
        let leaf = builder.location(Some(mapping), 0x1010, &[line(function)]);
        let other = builder.location(Some(mapping), 0x1020, &[line(library)]);
        let labels = [("thread", LabelValue::Text("work")), ("tid", LabelValue::Number(7, ""))];
        builder.sample(&[leaf, other], &[1], &labels);
        builder.comment("target: app (pid 1) in /home/alice/bin, thread work");
        builder.finish()
    }

    #[test]
    fn a_profile_loses_private_paths_and_chosen_labels_and_nothing_else() {
        let mut redacted = profile();
        Redactor::new(vec!["thread".into()], &[]).profile(&mut redacted);
        assert!(super::super::check(&redacted).is_ok());
        let all = redacted.string_table.join("\n");
        assert!(!all.contains("alice") && !all.contains("secret") && !all.contains("thread\n"), "{all}");
        for kept in ["work", "memcpy", "/usr/src/memcpy.c", "abc", "tid", "/redacted/1", "/redacted/2"] {
            assert!(redacted.string_table.iter().any(|text| text == kept), "{kept}: {all}");
        }
        assert_eq!(redacted.comments().next(), Some("target: app (pid 1) in /redacted/3, thread [redacted]"));
        assert_eq!(redacted.sample[0].label.len(), 1);
    }

    #[test]
    fn without_private_data_a_profile_stays_the_same() {
        let mut builder = Builder::new(&[("samples", "count")]);
        let function = builder.function("main", "main", "/usr/src/main.c", 1);
        let location = builder.location(None, 0x10, &[LineSpec { function, line: 1, column: 0 }]);
        builder.sample(&[location], &[1], &[("thread", LabelValue::Text("main"))]);
        builder.comment("home is where /rootfs and /homestead are");
        let before = builder.finish();
        let mut after = before.clone();
        Redactor::new(Vec::new(), &[]).profile(&mut after);
        let texts = |profile: &Profile| {
            let mut all = profile.string_table.clone();
            all.sort_unstable();
            all
        };
        assert_eq!(texts(&before), texts(&after));
        assert_eq!(before.sample[0].value, after.sample[0].value);
    }

    #[test]
    fn texts_lose_arguments_and_paths_under_home_directories() {
        let mut redactor = Redactor::new(Vec::new(), &["/srv/data/".into()]);
        redactor.add_argument("--password=hunter22");
        redactor.add_argument("-c");
        redactor.add_argument("abc");
        assert_eq!(redactor.text("hunter22 -c abc abcdef"), "[redacted] -c [redacted] abcdef");
        assert_eq!(redactor.text("see (/root/x.c:7), /srv/data/y"), "see (/redacted/1:7), /redacted/2");
        assert_eq!(redactor.text("/usr/home/x /srv/database"), "/usr/home/x /srv/database");
        assert_eq!(redactor.lines("4 /home/bob/a b c\nnext"), "4 /redacted/3\nnext");
        assert_eq!(redactor.path_count(), 3);
    }
}
