//! Signals that end a capture early and keep its data.

use anyhow::Result;

use crate::{capture::Stop, profile::file::pipe, sampler::look::hold, symbolize::SymbolizeOptions};

/// Whether rprof was started with SIGHUP ignored (`SigIgn` of proc_pid_status(5), bit 0).
fn ignores_hang_up() -> bool {
    let status =
        String::from_utf8_lossy(&std::fs::read("/proc/self/status").unwrap_or_default()).into_owned();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(ignored.trim(), 16).is_ok_and(|set| set & 1 == 1)
}

/// Ctrl-C, SIGTERM and SIGHUP end the capture early and keep its data; a second one ends rprof
/// (once every thread that it stopped is released).
pub fn stop_on_signals() -> Result<Stop> {
    use signal_hook::consts;
    // nohup(1) asks for SIGHUP to be ignored.
    let hang_up = (!ignores_hang_up()).then_some(consts::SIGHUP);
    stop_on([consts::SIGINT, consts::SIGTERM].into_iter().chain(hang_up))
}

/// Ctrl-C and SIGTERM as for [`stop_on_signals`]; SIGHUP sets `reload`.
pub fn stop_or_reload_on_signals(reload: &std::sync::Arc<std::sync::atomic::AtomicBool>) -> Result<Stop> {
    use signal_hook::{consts, flag};
    flag::register(consts::SIGHUP, std::sync::Arc::clone(reload))?;
    stop_on([consts::SIGINT, consts::SIGTERM].into_iter())
}

fn stop_on(signals: impl Iterator<Item = i32>) -> Result<Stop> {
    use signal_hook::flag;
    let stop = Stop::default();
    for signal in signals {
        // In this order: the first signal must find the flag unset.
        hold::end_at_next(signal, std::sync::Arc::clone(&stop.0))?;
        flag::register(signal, std::sync::Arc::clone(&stop.0))?;
        flag::register(signal, pipe::hurry())?;
    }
    Ok(stop)
}

/// The same options; naming also ends soon after the first signal, with the names found so far.
pub fn interruptible(options: SymbolizeOptions) -> Result<SymbolizeOptions> {
    let budget = options.budget.stopped_by(stop_on_signals()?.0);
    Ok(SymbolizeOptions { budget, ..options })
}
