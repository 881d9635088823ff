//! Profiles that a language runtime keeps itself: heap, allocs, block, mutex, threadcreate.
//!
//! The counts are the runtime's own, read once; nothing is sampled. Not here: how they are read
//! (`runtime`).

use std::time::SystemTime;

use super::{CaptureError, check_pids, name::locations::epoch_ns, runtime_stacks::RuntimeStacks};
use crate::{
    budget::Budget,
    issue::Issue,
    process::{Identity, identify},
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    runtime::{self, Account, AccountValue, Instance, Language, RuntimeError},
};

/// A profile of a runtime, and its quality.
#[derive(Debug)]
pub struct AccountProfile {
    /// The profile.
    pub profile: Profile,
    /// The process it is of.
    pub identity: Identity,
    /// The release of the runtime.
    pub version: String,
    /// The number of stacks.
    pub records: usize,
    /// What is missing or uncertain, one sentence each.
    pub warnings: Vec<String>,
}

/// The languages that keep profiles themselves.
pub fn keepers() -> Vec<&'static dyn Language> {
    runtime::ALL.iter().copied().filter(|language| !language.accounts().is_empty()).collect()
}

/// Whether a process seems to have a runtime that keeps profiles, judged by its mapped files alone.
pub fn are_kept(pid: u32) -> bool {
    runtime::likely(pid).iter().any(|language| !language.accounts().is_empty())
}

/// The instance of a process that `suits`; reading it draws from `budget`. Errors: there is none;
/// or why it cannot be read.
pub fn instance(
    pid: u32,
    budget: &Budget,
    suits: &dyn Fn(&dyn Language) -> bool,
) -> Result<Box<dyn Instance>, RuntimeError> {
    let attached = runtime::attach_within(pid, budget)?;
    if let Some(found) = attached.instances.into_iter().find(|instance| suits(instance.language())) {
        return Ok(found);
    }
    let refused = attached.refused.into_iter().find(|(language, _)| suits(*language));
    let language =
        runtime::ALL.iter().find(|language| suits(**language)).map_or("", |language| language.name());
    Err(refused.map_or(RuntimeError::Absent { pid, language }, |(_, error)| error))
}

/// Reads a profile that the process's runtime keeps, by its name as in `/debug/pprof/NAME`, within
/// `budget`. Errors: the process keeps no such profile, or cannot be read.
pub fn read(pid: u32, name: &str, budget: &Budget) -> Result<AccountProfile, CaptureError> {
    let identity = identify(pid)?;
    let instance = instance(pid, budget, &|language| language.accounts().contains(&name))?;
    let version = instance.version();
    let mut account = instance.account(name)?;
    if let Some(why) = account.limit {
        let issue = Issue::LimitReached { what: "the runtime's profile".to_owned(), why: why.to_string() };
        account.warnings.insert(0, issue.to_string());
    }
    let mut builder = samples(&account);
    builder.set_time(epoch_ns(SystemTime::now()), 0);
    builder.comment(&format!("kind: {name}"));
    builder.comment(&format!("target: {} (pid {pid})", identity.display_name()));
    builder.comment(&format!("runtime: {version}, its own counting"));
    account.comments.iter().chain(&account.warnings).for_each(|comment| builder.comment(comment));
    builder.comment(&format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    check_pids(std::slice::from_ref(&identity))?;
    let Account { records, warnings, .. } = account;
    Ok(AccountProfile { profile: builder.finish(), identity, version, records, warnings })
}

/// A profile in the text form of its language (`debug=1`); `None` where the text is made from the
/// profile. Errors: as [`read`].
pub fn text(pid: u32, name: &str, budget: &Budget) -> Result<Option<Vec<u8>>, CaptureError> {
    let instance = instance(pid, budget, &|language| language.accounts().contains(&name))?;
    Ok(instance.account_text(name)?)
}

fn samples(account: &Account) -> Builder {
    let mut builder = Builder::new(&account.sample_types);
    let mut stacks = RuntimeStacks::new(account.mappings.clone());
    for sample in &account.samples {
        let ids = stacks.locations(&sample.frames, &mut builder);
        let labels: Vec<_> = (sample.labels.iter())
            .map(|(key, value)| match value {
                AccountValue::Text(text) => (*key, LabelValue::Text(text)),
                AccountValue::Number(number, unit) => (*key, LabelValue::Number(*number, unit)),
            })
            .collect();
        builder.sample(&ids, &sample.values, &labels);
    }
    let (kind, unit, period) = account.period;
    builder.set_period(kind, unit, period);
    if !account.default_sample_type.is_empty() {
        builder.set_default_sample_type(account.default_sample_type);
    }
    builder
}
