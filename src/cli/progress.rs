//! The progress bar: time, samples, what is lost. Only on a terminal; quiet elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::capture::Progress;

/// How often it is drawn.
const DRAW_HZ: u8 = 5;

/// A progress bar on standard error, or nothing.
pub struct Bar {
    bar: ProgressBar,
    duration: Option<Duration>,
    what: String,
}

impl Bar {
    pub fn new(quiet: bool, duration: Option<Duration>) -> Bar {
        let bar = if quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let bar = ProgressBar::new(duration.map_or(0, |all| all.as_millis() as u64));
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAW_HZ));
            bar.set_style(style(duration.is_some()));
            bar
        };
        Bar { bar, duration, what: String::new() }
    }

    pub fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Attached { sampler, identities, .. } => {
                let names: Vec<_> = identities
                    .iter()
                    .take(3)
                    .map(|id| format!("{} ({})", id.display_name(), id.pid))
                    .collect();
                let more = if identities.len() > 3 { " …" } else { "" };
                self.what = format!("{}{more} by {}", names.join(", "), sampler.name);
            }
            Progress::Sampling { elapsed, tally } => {
                let shown = self.duration.map_or(*elapsed, |all| all.min(*elapsed));
                self.bar.set_position(shown.as_millis() as u64);
                let lost = if tally.lost > 0 { format!(", {} lost", tally.lost) } else { String::new() };
                let time = format!("{:.1}", elapsed.as_secs_f64());
                self.bar.set_prefix(match self.duration {
                    Some(all) => format!("{time}/{:.0} s", all.as_secs_f64()),
                    None => format!("{time} s"),
                });
                let samples = tally.samples;
                self.bar.set_message(format!("{samples} samples{lost}; {}. Ctrl-C ends it now", self.what));
            }
            Progress::Naming { addresses } => {
                self.bar.set_message(format!("naming {addresses} addresses"));
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(bounded: bool) -> ProgressStyle {
    let template = if bounded { "{prefix} {bar:24} {wide_msg}" } else { "{prefix} {spinner} {wide_msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
