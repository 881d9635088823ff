//! A profile as a list of stacks of names, root first, each with a count.

use std::{collections::HashMap, fmt::Write as _, path::Path};

use rprof::profile::{self, Profile, proto};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Empty: unnamed.
    pub name: String,
    pub file: String,
    pub line: i64,
    /// The line where the function begins.
    pub start_line: i64,
    /// Path of the mapping.
    pub mapping: String,
    /// Inlined into the frame before it (its caller).
    pub inlined: bool,
}

#[derive(Clone, Debug)]
pub struct Stack {
    /// Root first.
    pub frames: Vec<Frame>,
    pub count: i64,
    pub cpu_ns: i64,
    /// Text labels and numbers as text.
    pub labels: Vec<(String, String)>,
}

pub struct Stacks {
    pub stacks: Vec<Stack>,
    pub comments: Vec<String>,
    pub profile: Profile,
}

impl Stack {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().map(|frame| frame.name.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().any(|found| is_named(found, name))
    }

    /// Whether the stack has these names in this order, root to leaf, with others in between.
    pub fn has_in_order(&self, wanted: &[&str]) -> bool {
        let mut wanted = wanted.iter().peekable();
        for name in self.names() {
            if wanted.peek().is_some_and(|next| is_named(name, next)) {
                wanted.next();
            }
        }
        wanted.peek().is_none()
    }

    /// Whether the stack has these names in this order, each called by the one before.
    pub fn has_chain(&self, wanted: &[&str]) -> bool {
        let names: Vec<&str> = self.names().collect();
        names
            .windows(wanted.len())
            .any(|window| window.iter().zip(wanted).all(|(found, wanted)| is_named(found, wanted)))
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }
}

/// `sixty` matches `sixty()`, `ns::sixty(int)` and `main.sixty`, as different languages name it. A
/// name with `::`, `.` or `<` must match as it is, up to the arguments.
fn is_named(found: &str, wanted: &str) -> bool {
    let plain = found.split('(').next().unwrap_or(found);
    if found == wanted || plain == wanted {
        return true;
    }
    if wanted.contains([':', '.', '<']) {
        return plain.ends_with(wanted) && plain[..plain.len() - wanted.len()].ends_with(['.', ':', ' ']);
    }
    plain.rsplit(['.', ':', ' ']).next() == Some(wanted)
}

impl Stacks {
    /// Reads a file that rprof wrote, and checks that it is a valid pprof file.
    pub fn read(path: &Path) -> Result<Stacks, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(format!("{} is not gzipped", path.display()));
        }
        Stacks::decode(&bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Stacks, String> {
        let profile = profile::decode(bytes).map_err(|error| error.to_string())?;
        profile::check(&profile).map_err(|error| error.to_string())?;
        let types: Vec<(&str, &str)> = (profile.sample_type.iter())
            .map(|kind| (profile.string(kind.r#type), profile.string(kind.unit)))
            .collect();
        let known: [&[_]; 8] = [
            &[("samples", "count"), ("cpu", "nanoseconds")],
            &[("samples", "count"), ("wall", "nanoseconds")],
            &[("samples", "count"), ("faults", "count")],
            &[("threadcreate", "count")],
            &[("waits", "count"), ("offcpu", "nanoseconds")],
            &[("spans", "count"), ("time", "nanoseconds")],
            &[("contentions", "count"), ("delay", "nanoseconds")],
            &[("inuse_objects", "count"), ("inuse_space", "bytes")],
        ];
        if !known.contains(&&types[..]) {
            return Err(format!("sample types: {types:?}"));
        }
        let index = Index::new(&profile);
        let stacks = profile.sample.iter().map(|sample| index.stack(sample)).collect();
        let comments = profile.comments().map(str::to_owned).collect();
        Ok(Stacks { stacks, comments, profile })
    }

    /// The number of samples in all stacks.
    pub fn samples(&self) -> i64 {
        self.stacks.iter().map(|stack| stack.count).sum()
    }

    pub fn cpu_ns(&self) -> i64 {
        self.stacks.iter().map(|stack| stack.cpu_ns).sum()
    }

    pub fn count(&self, wanted: impl Fn(&Stack) -> bool) -> i64 {
        self.stacks.iter().filter(|stack| wanted(stack)).map(|stack| stack.count).sum()
    }

    /// The share of samples, in percent, whose stack satisfies the condition.
    pub fn share(&self, wanted: impl Fn(&Stack) -> bool) -> f64 {
        100.0 * self.count(wanted) as f64 / self.samples().max(1) as f64
    }

    pub fn share_of(&self, name: &str) -> f64 {
        self.share(|stack| stack.has(name))
    }

    /// The share of time, in percent, whose stack has `name`.
    pub fn share_of_time(&self, name: &str) -> f64 {
        let with = self.stacks.iter().filter(|stack| stack.has(name)).map(|stack| stack.cpu_ns).sum::<i64>();
        100.0 * with as f64 / self.cpu_ns().max(1) as f64
    }

    /// The value of the comment `key: value`.
    #[track_caller]
    pub fn comment(&self, key: &str) -> &str {
        let found = self.comments.iter().find_map(|comment| comment.strip_prefix(key)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no comment {key:?} among {:#?}", self.comments))
    }

    /// The share of whole stacks, in percent, as the file's comments state it.
    #[track_caller]
    pub fn whole_as_stated(&self) -> f64 {
        let text = self.comment("stacks");
        let number = text.strip_prefix("whole ").and_then(|rest| rest.split('%').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no share in {text:?}"))
    }

    #[track_caller]
    pub fn assert_at_least(&self, samples: i64) {
        assert!(self.samples() >= samples, "only {} samples\n{}", self.samples(), self.summary());
    }

    /// The share of stacks with `name` is `percent`, within `points` at 1,500 samples or more. With
    /// fewer samples (a busy machine gave the target less time) the bound is wider.
    #[track_caller]
    pub fn assert_share(&self, name: &str, percent: f64, points: f64) {
        let points = points * (1500.0 / self.samples().max(1) as f64).sqrt().max(1.0);
        let share = self.share_of(name);
        assert!(
            (share - percent).abs() <= points,
            "{name} has {share:.2} %, not {percent} ± {points:.1}\n{}",
            self.summary()
        );
    }

    /// The functions `hot50`, `hot30` and `hot20` of a test program have these shares, in percent,
    /// of the samples with any of them: within 2.6 points at 6,000 samples, more with fewer.
    #[track_caller]
    pub fn assert_hot_parts(&self, what: &str) {
        let hot = |name: &str| self.count(|stack| stack.has(name)) as f64;
        let all = (hot("hot50") + hot("hot30") + hot("hot20")).max(1.0);
        let points = 2.6 * (6000.0 / all).sqrt().max(1.0);
        for (name, percent) in [("hot50", 50.0), ("hot30", 30.0), ("hot20", 20.0)] {
            let share = 100.0 * hot(name) / all;
            assert!(
                (share - percent).abs() <= points,
                "{what}: {name} has {share:.2} %, not {percent} ± {points:.1}\n{}",
                self.summary()
            );
        }
    }

    /// At least `percent` of the stacks satisfy the condition.
    #[track_caller]
    pub fn assert_nearly_all(&self, percent: f64, what: &str, wanted: impl Fn(&Stack) -> bool) {
        let share = self.share(&wanted);
        if share < percent {
            let mut others: Vec<&Stack> = self.stacks.iter().filter(|stack| !wanted(stack)).collect();
            others.sort_by_key(|stack| -stack.count);
            let shown: String = others.iter().take(8).map(|stack| line(stack)).collect();
            panic!("{what}: {share:.2} %, not {percent}; the others:\n{shown}{}", self.summary());
        }
    }

    /// At least 99.5 % of the stacks begin at one of `roots`, and the file's comments confirm it.
    #[track_caller]
    pub fn assert_whole(&self, roots: &[&str]) {
        self.assert_nearly_all(99.5, "stacks that begin at the root", |stack| {
            stack.names().next().is_some_and(|first| roots.iter().any(|root| is_named(first, root)))
        });
        self.assert_stated_whole();
    }

    #[track_caller]
    pub fn assert_stated_whole(&self) {
        let stated = self.whole_as_stated();
        assert!(stated >= 99.5, "the file states {stated} % whole stacks\n{}", self.summary());
    }

    /// The comments, the most frequent stacks and the most frequent cut stacks, for the message of
    /// a failed test.
    pub fn summary(&self) -> String {
        let mut text = format!("{} samples\n{}\n", self.samples(), self.comments.join("\n"));
        let mut stacks: Vec<&Stack> = self.stacks.iter().collect();
        stacks.sort_by_key(|stack| -stack.count);
        text.extend(stacks.iter().take(8).map(|stack| line(stack)));
        stacks.retain(|stack| stack.has("[truncated stack]"));
        if !stacks.is_empty() {
            text.push_str("cut stacks:\n");
            text.extend(stacks.iter().take(8).map(|stack| line(stack)));
        }
        text
    }
}

fn line(stack: &Stack) -> String {
    let mut text = format!("{:6} ", stack.count);
    let shown = stack.frames.len().min(14);
    for frame in &stack.frames[..shown] {
        let name = if frame.name.is_empty() { format!("[{}]", frame.mapping) } else { frame.name.clone() };
        write!(text, "{}{name}", if frame.inlined { " (inlined) " } else { " > " }).expect("a string");
    }
    writeln!(text, "{}", if stack.frames.len() > shown { " > …" } else { "" }).expect("a string");
    text
}

/// The locations, functions and mappings of a profile by id.
struct Index<'a> {
    profile: &'a Profile,
    locations: HashMap<u64, &'a proto::Location>,
    functions: HashMap<u64, &'a proto::Function>,
    mappings: HashMap<u64, &'a proto::Mapping>,
}

impl<'a> Index<'a> {
    fn new(profile: &'a Profile) -> Index<'a> {
        Index {
            profile,
            locations: profile.location.iter().map(|location| (location.id, location)).collect(),
            functions: profile.function.iter().map(|function| (function.id, function)).collect(),
            mappings: profile.mapping.iter().map(|mapping| (mapping.id, mapping)).collect(),
        }
    }

    fn stack(&self, sample: &proto::Sample) -> Stack {
        let text = |label: &proto::Label| match self.profile.string(label.str) {
            "" => label.num.to_string(),
            text => text.to_owned(),
        };
        Stack {
            frames: sample.location_id.iter().rev().flat_map(|id| self.frames(self.locations[id])).collect(),
            count: sample.value[0],
            // 0 for a profile without time values.
            cpu_ns: sample.value.get(1).copied().unwrap_or_default(),
            labels: (sample.label.iter())
                .map(|label| (self.profile.string(label.key).to_owned(), text(label)))
                .collect(),
        }
    }

    /// The frames of a location, outermost function first.
    fn frames(&self, location: &proto::Location) -> Vec<Frame> {
        let mapping = self.mappings.get(&location.mapping_id);
        let mapping = mapping.map_or("", |mapping| self.profile.string(mapping.filename)).to_owned();
        let frame = |name: i64, file: i64, line: i64, start_line: i64, inlined: bool| Frame {
            name: self.profile.string(name).to_owned(),
            file: self.profile.string(file).to_owned(),
            line,
            start_line,
            mapping: mapping.clone(),
            inlined,
        };
        if location.line.is_empty() {
            return vec![frame(0, 0, 0, 0, false)];
        }
        let lines = location.line.iter().rev().enumerate();
        lines
            .map(|(depth, line)| {
                let function = self.functions[&line.function_id];
                frame(function.name, function.filename, line.line, function.start_line, depth > 0)
            })
            .collect()
    }
}
