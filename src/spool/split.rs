//! Divides a profile of several processes into one profile for each group of them.

use std::collections::{HashMap, HashSet};

use crate::profile::proto::{Label, Profile, Sample};

/// The label that says from which process a sample is.
const PID: &str = "pid";

/// Processes whose samples belong together, and what their samples are labelled with.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The processes, with the labels that the samples of each one get.
    pub labels: HashMap<u32, Vec<(&'static str, String)>>,
    /// Comments to add.
    pub comments: Vec<String>,
}

/// What comments of a profile begin with that are also true of a part of its samples.
const OF_ALL: &[&str] = &[
    "sampler:",
    "how:",
    "rate:",
    "kernel frames:",
    "frames:",
    "language frames:",
    "category:",
    "ended:",
    "rprof:",
];

/// Divides `profile` by the label `pid` of its samples. Samples without this label (lost ones)
/// belong to the only group, if there is one. A group without samples has an empty profile.
pub fn split(profile: &Profile, groups: &[Group]) -> Vec<Profile> {
    let pid_key = profile.string_table.iter().position(|text| text == PID).map(|at| at as i64);
    let pid_of = |sample: &Sample| {
        let label = sample.label.iter().find(|label| Some(label.key) == pid_key && label.str == 0)?;
        u32::try_from(label.num).ok()
    };
    let mut of_pid: HashMap<u32, usize> = HashMap::new();
    for (at, group) in groups.iter().enumerate() {
        of_pid.extend(group.labels.keys().map(|pid| (*pid, at)));
    }
    let mut parts: Vec<Part> = groups.iter().map(|group| Part::new(profile, group)).collect();
    let is_only = parts.len() == 1;
    for sample in &profile.sample {
        let pid = pid_of(sample);
        let at = match pid {
            Some(pid) => of_pid.get(&pid).copied(),
            None => is_only.then_some(0),
        };
        if let Some(part) = at.and_then(|at| parts.get_mut(at)) {
            part.add(sample, pid);
        }
    }
    parts.into_iter().map(|part| part.finish(is_only)).collect()
}

/// The profile of one group, in the course of being built.
struct Part<'a> {
    whole: &'a Profile,
    group: &'a Group,
    texts: Texts<'a>,
    locations: HashSet<u64>,
    samples: Vec<Sample>,
}

impl<'a> Part<'a> {
    fn new(whole: &'a Profile, group: &'a Group) -> Part<'a> {
        Part { whole, group, texts: Texts::new(whole), locations: HashSet::new(), samples: Vec::new() }
    }

    fn add(&mut self, sample: &Sample, pid: Option<u32>) {
        self.locations.extend(&sample.location_id);
        let mut sample = sample.clone();
        for label in &mut sample.label {
            label.key = self.texts.moved(label.key);
            label.str = self.texts.moved(label.str);
            label.num_unit = self.texts.moved(label.num_unit);
        }
        let group = self.group;
        for (key, value) in pid.and_then(|pid| group.labels.get(&pid)).into_iter().flatten() {
            let (key, str) = (self.texts.new_text(key), self.texts.new_text(value));
            sample.label.push(Label { key, str, num: 0, num_unit: 0 });
        }
        self.samples.push(sample);
    }

    /// The profile; `is_whole`: no other group has samples.
    fn finish(mut self, is_whole: bool) -> Profile {
        let texts = &mut self.texts;
        let mut profile = Profile {
            time_nanos: self.whole.time_nanos,
            duration_nanos: self.whole.duration_nanos,
            period: self.whole.period,
            default_sample_type: texts.moved(self.whole.default_sample_type),
            drop_frames: texts.moved(self.whole.drop_frames),
            keep_frames: texts.moved(self.whole.keep_frames),
            doc_url: texts.moved(self.whole.doc_url),
            ..Profile::default()
        };
        let mut kind = |kind: &crate::profile::proto::ValueType| crate::profile::proto::ValueType {
            r#type: texts.moved(kind.r#type),
            unit: texts.moved(kind.unit),
        };
        profile.sample_type = self.whole.sample_type.iter().map(&mut kind).collect();
        profile.period_type = self.whole.period_type.as_ref().map(&mut kind);
        self.add_tables(&mut profile);
        profile.comment = self.comments(is_whole);
        profile.sample = self.samples;
        profile.string_table = self.texts.table;
        profile
    }

    /// Adds the locations, functions and mappings that the samples refer to.
    fn add_tables(&mut self, profile: &mut Profile) {
        let is_used = |id: &u64| self.locations.contains(id);
        profile.location =
            self.whole.location.iter().filter(|location| is_used(&location.id)).cloned().collect();
        let functions: HashSet<u64> =
            profile.location.iter().flat_map(|one| one.line.iter().map(|line| line.function_id)).collect();
        let mappings: HashSet<u64> = profile.location.iter().map(|one| one.mapping_id).collect();
        let texts = &mut self.texts;
        for function in self.whole.function.iter().filter(|function| functions.contains(&function.id)) {
            let mut function = *function;
            function.name = texts.moved(function.name);
            function.system_name = texts.moved(function.system_name);
            function.filename = texts.moved(function.filename);
            profile.function.push(function);
        }
        for mapping in self.whole.mapping.iter().filter(|mapping| mappings.contains(&mapping.id)) {
            let mut mapping = *mapping;
            mapping.filename = texts.moved(mapping.filename);
            mapping.build_id = texts.moved(mapping.build_id);
            profile.mapping.push(mapping);
        }
    }

    /// The comments that are true of this part, and those of the group.
    fn comments(&mut self, is_whole: bool) -> Vec<i64> {
        let is_target = |comment: &str| {
            let pid = comment.strip_suffix(')').and_then(|rest| rest.rsplit_once("(pid "));
            pid.and_then(|(_, pid)| pid.parse().ok())
                .is_some_and(|pid: u32| self.group.labels.contains_key(&pid))
        };
        let mut kept: Vec<String> = Vec::new();
        for comment in self.whole.comments() {
            match comment {
                _ if comment.starts_with("target:") => {
                    kept.extend(is_target(comment).then(|| comment.to_owned()));
                }
                _ if is_whole || OF_ALL.iter().any(|key| comment.starts_with(key)) => {
                    kept.push(comment.to_owned());
                }
                _ if comment.starts_with("lost:") => {
                    kept.push(format!("{comment} (of all services of this window)"));
                }
                _ => {}
            }
        }
        kept.extend(self.group.comments.iter().cloned());
        kept.iter().map(|comment| self.texts.new_text(comment)).collect()
    }
}

/// The texts of a part.
struct Texts<'a> {
    whole: &'a Profile,
    table: Vec<String>,
    moved: HashMap<i64, i64>,
    new: HashMap<String, i64>,
}

impl<'a> Texts<'a> {
    fn new(whole: &'a Profile) -> Texts<'a> {
        Texts {
            whole,
            table: vec![String::new()],
            moved: HashMap::from([(0, 0)]),
            new: HashMap::from([(String::new(), 0)]),
        }
    }

    /// The index of a text of the whole profile.
    fn moved(&mut self, index: i64) -> i64 {
        if let Some(known) = self.moved.get(&index) {
            return *known;
        }
        let new = self.new_text(self.whole.string(index));
        self.moved.insert(index, new);
        new
    }

    fn new_text(&mut self, text: &str) -> i64 {
        if let Some(known) = self.new.get(text) {
            return *known;
        }
        let index = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.new.insert(text.to_owned(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec, check};

    fn profile() -> Profile {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        for (name, pid) in [("one", Some(1)), ("two", Some(2)), ("three", Some(3)), ("[lost]", None)] {
            let function = builder.function(name, name, "x.c", 1);
            let location =
                builder.location(None, pid.unwrap_or(9), &[LineSpec { function, line: 3, column: 0 }]);
            let labels: Vec<(&str, LabelValue<'_>)> =
                pid.map(|pid| ("pid", LabelValue::Number(pid as i64, ""))).into_iter().collect();
            builder.sample(&[location], &[1, 10], &labels);
        }
        for comment in
            ["target: a (pid 1)", "target: b (pid 2)", "sampler: x (y)", "samples: 4", "lost: 1 samples"]
        {
            builder.comment(comment);
        }
        builder.finish()
    }

    fn group(pids: &[u32]) -> Group {
        let labels = pids.iter().map(|pid| (*pid, vec![("service", format!("s{pid}"))])).collect();
        Group { labels, comments: vec!["share: 10%".into()] }
    }

    fn names(profile: &Profile) -> Vec<&str> {
        profile.function.iter().map(|function| profile.string(function.name)).collect()
    }

    #[test]
    fn each_group_has_the_samples_of_its_processes_and_their_labels() {
        let parts = split(&profile(), &[group(&[1, 3]), group(&[2]), group(&[7])]);
        parts.iter().for_each(|part| check(part).expect("valid"));
        assert_eq!(names(&parts[0]), ["one", "three"]);
        assert_eq!(names(&parts[1]), ["two"]);
        assert_eq!((names(&parts[2]).len(), parts[2].sample.len()), (0, 0));
        let label = |part: &Profile, at: usize| {
            let label = part.sample[at].label.iter().find(|label| part.string(label.key) == "service");
            label.map(|label| part.string(label.str).to_owned())
        };
        assert_eq!(
            (label(&parts[0], 1).as_deref(), label(&parts[1], 0).as_deref()),
            (Some("s3"), Some("s2"))
        );
        let comments: Vec<&str> = parts[1].comments().collect();
        let lost = "lost: 1 samples (of all services of this window)";
        assert_eq!(comments, ["target: b (pid 2)", "sampler: x (y)", lost, "share: 10%"]);
    }

    #[test]
    fn the_only_group_has_the_lost_samples_too() {
        let parts = split(&profile(), &[group(&[1, 2, 3])]);
        assert_eq!(names(&parts[0]), ["one", "two", "three", "[lost]"]);
        assert!(parts[0].comments().any(|comment| comment == "samples: 4"));
    }
}
