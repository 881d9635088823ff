//! The tools that read processes.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use regex::Regex;

use super::{text::cut, tool::Call};
use crate::{
    capture::{
        self, LabelKeys, Request, Response, SamplerChoice, StackOptions,
        kinds::{self, KindRow, TextForm},
    },
    cli::{
        args::SamplerArg,
        attach, doctor, dump,
        sampling::{sampler_choice, symbolize_options},
        summary,
    },
    process::{
        Identity, identify,
        identity::cpu_time_ns,
        select::{self, MatchOn, arguments_of},
    },
    report::paths::{fold::Expand, text::TextOptions},
};

/// How long the CPU time of processes is observed.
const OBSERVED: Duration = Duration::from_millis(300);
/// The longest command line that is shown, in characters.
const MAX_COMMAND: usize = 100;
/// Sampled without `seconds`.
const SECONDS: f64 = 5.0;
/// The widest line of call paths, in characters.
pub const WIDTH: usize = 110;
/// Rows of the call paths that `attach` shows.
const ROWS: usize = 24;

/// Lists processes.
pub fn list_processes(call: &Call<'_>) -> Result<String> {
    let name = call.arguments.text("name");
    let pattern = Regex::new(name).with_context(|| format!("`{name}` is not a regular expression"))?;
    let on = if call.arguments.flag("match_args") { MatchOn::CommandLine } else { MatchOn::Program };
    let found = select::by_name(&pattern, on);
    let before: Vec<(Identity, Option<u64>)> =
        (found.into_iter()).filter_map(|pid| Some((identify(pid).ok()?, cpu_time_ns(pid)))).collect();
    if before.is_empty() {
        bail!("no process matches `{name}`: match_args compares the command line too");
    }
    std::thread::sleep(OBSERVED);
    let mut rows: Vec<(f64, Identity)> = before
        .into_iter()
        .filter(|(identity, _)| identity.is_alive())
        .map(|(identity, before)| {
            let used = cpu_time_ns(identity.pid).zip(before).map(|(now, before)| now.saturating_sub(before));
            (used.unwrap_or(0) as f64 / OBSERVED.as_nanos() as f64, identity)
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.pid.cmp(&b.1.pid)));
    let mut text = format!("{:>8} {:>6} {:>8} {:>6}  COMMAND\n", "PID", "CPU", "THREADS", "UID");
    for (cpu, identity) in rows {
        let threads = crate::process::threads::list(identity.pid).len();
        let command: String = arguments_of(&identity).join(" ").chars().take(MAX_COMMAND).collect();
        let command =
            if command.trim().is_empty() { format!("[{}]", identity.display_name()) } else { command };
        let command = command.replace(['\n', '\t'], " ");
        let (pid, uid) = (identity.pid, identity.uid);
        let _ = writeln!(text, "{pid:>8} {:>5.0}% {threads:>8} {uid:>6}  {command}", cpu * 100.0);
    }
    Ok(cut(&text, call.budget()))
}

fn pid(call: &Call<'_>) -> u32 {
    call.arguments.integer("pid").unwrap_or_default() as u32
}

/// Why a call without permission to stop threads is refused.
fn refuse_stops(what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{what}, and may_stop_threads is not true: ask the user, then call again with may_stop_threads: true"
    )
}

/// Profiles a process.
pub fn attach(call: &Call<'_>) -> Result<String> {
    let arguments = call.arguments;
    let sampler = match arguments.text("sampler") {
        "" => SamplerChoice::Auto,
        name => SamplerArg::from_str(name, false).map(sampler_choice).unwrap_or_default(),
    };
    let may_stop = arguments.flag("may_stop_threads");
    if sampler == SamplerChoice::Ptrace && !may_stop {
        return Err(refuse_stops("the sampler ptrace stops threads one by one, for microseconds each"));
    }
    let kind = KindRow::named(arguments.text("kind")).unwrap_or(kinds::DEFAULT);
    kind.check_sampler(sampler)?;
    let children = arguments.flag("children");
    let request = Request {
        pids: vec![pid(call)],
        children,
        kinds: vec![kind],
        frequency_hz: arguments.integer("frequency_hz").map_or(99, |hz| hz as u32),
        sampler,
        stacks: StackOptions { never_stop: !may_stop, ..StackOptions::default() },
        labels: LabelKeys { process: children, ..LabelKeys::default() },
        symbolize: symbolize_options(call.debug),
        stop: call.stop.clone(),
        ..Request::default()
    };
    let seconds = Duration::from_secs_f64(arguments.seconds("seconds").unwrap_or(SECONDS));
    let duration = attach::duration(kind, &request, seconds);
    let response = capture::once(&Request { duration: Some(duration), ..request }, &mut |_| {})?;
    captured(call, &response, |profile| {
        let options = TextOptions { width: WIDTH, full_names: false };
        summary::paths(profile, ROWS, Expand::default(), options)
    })
}

/// Keeps the profile of a response. Returns what was captured, its id, and `content` of it.
fn captured(
    call: &Call<'_>,
    response: &Response,
    content: impl FnOnce(&crate::profile::proto::Profile) -> String,
) -> Result<String> {
    let profile = response.profile().context("the capture has no profile: this is a bug in rprof")?;
    let summary::Description { head, quality, warnings } = summary::describe(response);
    let id = call.store.keep(&profile, head.clone(), warnings.clone())?;
    let mut text = format!("profile {id}: {head}\n");
    text.extend(quality.map(|quality| quality + "\n"));
    text.extend(warnings.iter().map(|warning| format!("warning: {warning}\n")));
    text += &content(&profile);
    Ok(cut(&text, call.budget()))
}

/// Shows the stacks of all threads.
pub fn dump(call: &Call<'_>) -> Result<String> {
    let arguments = call.arguments;
    let (may_stop, consistent) = (arguments.flag("may_stop_threads"), arguments.flag("consistent"));
    if consistent && !may_stop {
        return Err(refuse_stops("a consistent dump stops all threads of the process together"));
    }
    let each = arguments.flag("each");
    let request = Request {
        pids: vec![pid(call)],
        children: arguments.flag("children"),
        duration: Some(Duration::ZERO),
        text: Some(if each { TextForm::Each } else { TextForm::Grouped }),
        stacks: StackOptions { never_stop: !may_stop, consistent, ..StackOptions::default() },
        symbolize: symbolize_options(call.debug),
        stop: call.stop.clone(),
        ..Request::default()
    };
    let request = dump::with_kind(request, arguments.flag("threads"));
    let response = capture::once(&request, &mut |_| {})?;
    let Response::Read(reading) = &response else {
        bail!("the stacks were not read at one instant: this is a bug in rprof")
    };
    let text = dump::text(reading, each)?;
    captured(call, &response, |_| format!("{}\n\n{text}", reading.summary))
}

/// Checks what works here.
pub fn doctor(call: &Call<'_>) -> Result<String> {
    let pid = call.arguments.integer("pid").map(|pid| pid as u32);
    Ok(cut(&doctor::diagnose(pid, false)?.text, call.budget()))
}
