//! The labels of a process: which service it is, which version, and where it runs.
//!
//! The target chooses most of these texts, so they are cut, and each label has a limited number of
//! values at a time.

use std::collections::HashMap;

use crate::process::{
    Identity,
    surroundings::{self, Container},
};

/// The most bytes of a value.
const MAX_VALUE: usize = 100;
/// In place of a value that is too many.
pub const OTHER: &str = "other";
/// The label of the service.
pub const SERVICE: &str = "service";

/// What labels are made of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the process.
    pub name: String,
    /// Its environment variables.
    pub environment: Vec<(String, String)>,
    /// Its container.
    pub container: Option<Container>,
    /// The host name in its own file system.
    pub host_name: Option<String>,
    /// The namespace of its pod.
    pub namespace: Option<String>,
}

/// Labels that the user gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The service of all processes.
    pub service: Option<String>,
    /// The machine's name.
    pub host: String,
}

/// The labels of a process: key and value. The service is the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<(&'static str, String)>);

impl Labels {
    /// The service.
    pub fn service(&self) -> &str {
        self.0.first().map_or("", |(_, service)| service)
    }
}

impl Facts {
    /// Reads the facts of a process, whose environment was read already.
    pub fn read(identity: &Identity, environment: Vec<(String, String)>) -> Facts {
        let namespace = surroundings::kubernetes_namespace(identity.pid);
        Facts {
            name: identity.display_name(),
            environment,
            container: surroundings::container(identity.pid),
            // Elsewhere than in a pod it is the machine's name.
            host_name: namespace.as_ref().and_then(|_| surroundings::host_name(identity.pid)),
            namespace,
        }
    }

    /// The value of an environment variable, if it is not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// The labels. Where several sources have a value, the first of these has precedence: what the
    /// user gives, the variables of OpenTelemetry, the container, the process.
    pub fn labels(&self, given: &Given) -> Labels {
        let attributes = attributes(self.variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let attribute = |key: &str| attributes.get(key).cloned();
        let container = self.container.as_ref();
        let container_name = container.and_then(|container| container.names.first().cloned());
        let container_id = container.map(|container| container.id.chars().take(12).collect::<String>());
        let service = (given.service.clone())
            .or_else(|| self.variable("OTEL_SERVICE_NAME").map(str::to_owned))
            .or_else(|| attribute("service.name"))
            .or_else(|| container_name.clone())
            .unwrap_or_else(|| self.name.clone());
        let namespace = attribute("k8s.namespace.name").or_else(|| self.namespace.clone());
        let labels = [
            (SERVICE, Some(service)),
            ("version", attribute("service.version")),
            ("host", Some(given.host.clone())),
            ("container", container_name.or(container_id)),
            ("pod", attribute("k8s.pod.name").or_else(|| self.host_name.clone())),
            ("namespace", namespace),
        ];
        let labels = labels.into_iter().filter_map(|(key, value)| Some((key, printable(&value?))));
        Labels(labels.filter(|(key, value)| *key == SERVICE || !value.is_empty()).collect())
    }
}

/// The attributes of OTEL_RESOURCE_ATTRIBUTES: `key=value,key=value`, with `%XX` in values.
fn attributes(text: &str) -> HashMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = pairs.map(|(key, value)| (key.trim().to_owned(), percent_decoded(value.trim())));
    decoded.filter(|(_, value)| !value.is_empty()).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value without control characters and not too long.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.trim().chars() {
        if shown.len() + character.len_utf8() > MAX_VALUE {
            break;
        }
        shown.push(if character.is_control() { '?' } else { character });
    }
    shown
}

/// Limits how many values each label has at a time. Values of processes that have ended are
/// forgotten.
#[derive(Debug)]
pub struct Caps {
    limit: usize,
    /// How many processes have a value.
    used: HashMap<(&'static str, String), usize>,
    /// How many values each label has.
    values: HashMap<&'static str, usize>,
    replaced: u64,
}

impl Caps {
    /// At most `limit` values of each label.
    pub fn new(limit: usize) -> Caps {
        Caps { limit, used: HashMap::new(), values: HashMap::new(), replaced: 0 }
    }

    /// The labels of a process that was added: values that are too many are [`OTHER`].
    pub fn add(&mut self, mut labels: Labels) -> Labels {
        for (key, value) in &mut labels.0 {
            let count = self.values.entry(key).or_default();
            if !self.used.contains_key(&(*key, value.clone())) {
                if *count >= self.limit {
                    *value = OTHER.to_owned();
                    self.replaced += 1;
                } else {
                    *count += 1;
                }
            }
            *self.used.entry((*key, value.clone())).or_default() += 1;
        }
        labels
    }

    /// Forgets the labels of a process, as [`Caps::add`] has returned them.
    pub fn remove(&mut self, labels: &Labels) {
        for (key, value) in &labels.0 {
            let entry = (*key, value.clone());
            let Some(used) = self.used.get_mut(&entry) else { continue };
            *used -= 1;
            if *used == 0 {
                self.used.remove(&entry);
                if value != OTHER
                    && let Some(count) = self.values.get_mut(key)
                {
                    *count = count.saturating_sub(1);
                }
            }
        }
    }

    /// How many values were replaced by [`OTHER`] so far.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { name: "python3".into(), ..Facts::default() }
    }

    fn given() -> Given {
        Given { service: None, host: "node-7".into() }
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn value(labels: &Labels, key: &str) -> Option<String> {
        labels.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_service_is_the_first_that_is_known_of_option_variables_container_and_process() {
        let mut facts = facts();
        assert_eq!(facts.labels(&given()).service(), "python3");
        facts.container = Some(Container { id: "ab".repeat(32), names: vec![] });
        assert_eq!(facts.labels(&given()).service(), "python3", "an ID changes with each start");
        assert_eq!(value(&facts.labels(&given()), "container").as_deref(), Some("abababababab"));
        facts.container = Some(Container { id: "ab".repeat(32), names: vec!["web-1".into()] });
        assert_eq!(facts.labels(&given()).service(), "web-1");
        facts.environment =
            variables(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop%20eu, service.version=1.2")]);
        assert_eq!(facts.labels(&given()).service(), "shop eu");
        assert_eq!(value(&facts.labels(&given()), "version").as_deref(), Some("1.2"));
        facts.environment.push(("OTEL_SERVICE_NAME".into(), "cart".into()));
        assert_eq!(facts.labels(&given()).service(), "cart");
        let given = Given { service: Some("mine".into()), ..given() };
        assert_eq!(facts.labels(&given).service(), "mine");
    }

    #[test]
    fn a_process_in_a_pod_has_the_pod_and_the_namespace() {
        let facts = Facts { host_name: Some("web-7d9f".into()), namespace: Some("shop".into()), ..facts() };
        let labels = facts.labels(&given());
        let found = ["host", "pod", "namespace", "version"].map(|key| value(&labels, key));
        assert_eq!(found, [Some("node-7".into()), Some("web-7d9f".into()), Some("shop".into()), None]);
    }

    #[test]
    fn values_are_cut_and_have_no_control_characters() {
        let facts = Facts { name: format!("a\x1b[2J\n{}", "é".repeat(200)), ..facts() };
        let service = facts.labels(&given()).service().to_owned();
        assert!(service.starts_with("a?[2J?é") && service.len() <= MAX_VALUE);
        assert_eq!(percent_decoded("50%zz%"), "50%zz%");
    }

    #[test]
    fn the_values_of_a_label_are_limited_and_ended_ones_make_room() {
        let labels = |name: String| Labels(vec![(SERVICE, name), ("host", "h".to_owned())]);
        let mut caps = Caps::new(10);
        let added: Vec<Labels> = (0..1000).map(|n| caps.add(labels(format!("s{n}")))).collect();
        assert_eq!(added.iter().filter(|labels| labels.service() == OTHER).count(), 990);
        assert_eq!((caps.replaced(), added[0].service()), (990, "s0"));
        assert_eq!(caps.add(labels("s3".into())).service(), "s3", "a known value is no new one");
        caps.remove(&added[0]);
        assert_eq!(caps.add(labels("new".into())).service(), "new");
        assert_eq!(caps.add(labels("newer".into())).service(), OTHER);
        added[1..].iter().for_each(|labels| caps.remove(labels));
        // What is left: the two `s3`, `new`, and the last one.
        assert!(caps.used.len() < 6 && caps.values[SERVICE] <= 3, "{caps:?}");
    }
}
