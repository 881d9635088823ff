//! Which kinds of profiles are available here, how they are made, and why others are not.

use serde_json::{Value, json};

use crate::{
    capture::{
        CaptureError, Request,
        kinds::{ALL, Kind},
    },
    sampler::checks::Check,
};

const NOT_PERMITTED: &str = "not possible with these permissions";

/// Whether a kind is available.
pub struct Availability {
    kind: Kind,
    /// The method, or why there is none.
    result: Result<&'static str, String>,
}

/// Whether each kind is available: on this machine, and with `pid` for this process.
pub fn availability(pid: Option<u32>, checks: &[Check]) -> Vec<Availability> {
    let of = |kind: Kind| Availability { kind, result: available(kind, pid, checks) };
    ALL.iter().copied().map(of).collect()
}

fn available(kind: Kind, pid: Option<u32>, checks: &[Check]) -> Result<&'static str, String> {
    let works = |check| checks.iter().any(|done| done.source == check && done.result.is_ok());
    let mut makers = kind.makers.iter().collect::<Vec<_>>();
    if let Some(pid) = pid {
        match kind.maker(&Request::now(pid)) {
            Ok(maker) => makers = vec![maker],
            Err(CaptureError::NotOffered { why, .. }) => {
                return Err(format!("not for this process: they {why}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let method = makers.into_iter().find_map(|maker| maker.method(works));
    method.map(|need| need.by).ok_or_else(|| NOT_PERMITTED.to_owned())
}

/// Whether a kind can be made, and the best method, with what is special about it: `yes, by bpf`.
pub fn method(kind: Kind, checks: &[Check]) -> Result<String, String> {
    let works = |check| checks.iter().any(|done| done.source == check && done.result.is_ok());
    match kind.makers.iter().find_map(|maker| maker.method(works)) {
        Some(need) if need.note.is_empty() => Ok(format!("yes, by {}", need.by)),
        Some(need) => Ok(format!("yes, by {} ({})", need.by, need.note)),
        None => Err(format!("no: {NOT_PERMITTED}")),
    }
}

/// One line for each method, with the kinds that it makes; then one for each reason.
pub fn lines(available: &[Availability]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    let (yes, no): (Vec<_>, Vec<_>) = available.iter().partition(|one| one.result.is_ok());
    for one in yes.into_iter().chain(no) {
        let what = match &one.result {
            Ok(by) => format!("by {by}"),
            Err(why) => why.clone(),
        };
        match groups.iter_mut().find(|(known, _)| *known == what) {
            Some((_, kinds)) => kinds.push(one.kind.name),
            None => groups.push((what, vec![one.kind.name])),
        }
    }
    let mut text = String::new();
    for (at, (what, kinds)) in groups.iter().enumerate() {
        let start = if at == 0 { "kinds:" } else { "" };
        text += &format!("{start:<7} {}: {what}\n", kinds.join(", "));
    }
    text
}

/// The same as JSON.
pub fn json(available: &[Availability]) -> Value {
    let one = |one: &Availability| {
        let detail = match &one.result {
            Ok(by) => format!("by {by}"),
            Err(why) => why.clone(),
        };
        json!({ "name": one.kind.name, "works": one.result.is_ok(), "detail": detail })
    };
    available.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::checks::Source;

    fn passed(sources: &[Source]) -> Vec<Check> {
        let check = |source: &Source| Check {
            source: *source,
            result: Ok(String::new()),
            barrier: None,
            errno: None,
            log: None,
        };
        sources.iter().map(check).collect()
    }

    fn detail<'a>(available: &'a [Availability], name: &str) -> &'a Result<&'static str, String> {
        &available.iter().find(|one| one.kind.name == name).expect("a kind").result
    }

    #[test]
    fn each_kind_is_listed_with_its_method_or_the_reason() {
        let available = availability(None, &passed(&[Source::Maps, Source::Ptrace, Source::ProcMem]));
        assert_eq!(*detail(&available, "cpu"), Ok("ptrace"));
        assert_eq!(*detail(&available, "offcpu"), Err(NOT_PERMITTED.to_owned()));
        assert_eq!(*detail(&available, "invented"), Ok("imagination"));
        let text = lines(&available);
        assert!(text.starts_with("kinds:  cpu, wall: by ptrace\n"), "{text}");
        assert!(text.ends_with("offcpu, faults, trace: not possible with these permissions\n"), "{text}");
        assert!(ALL.iter().all(|kind| text.contains(kind.name)), "{text}");
    }

    #[test]
    fn a_kind_that_a_process_does_not_have_is_listed_with_the_reason() {
        let checks = passed(&[Source::Maps, Source::ProcMem]);
        let available = availability(Some(std::process::id()), &checks);
        let why = detail(&available, "allocs").as_ref().expect_err("this is a Rust program");
        assert!(why.starts_with("not for this process: they need a Go"), "{why}");
    }
}
