//! The progress bar: time, samples, losses. It is drawn on a terminal only.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    capture::Progress,
    text::{counted, counted_as},
};

/// How often it is drawn.
const DRAW_HZ: u8 = 5;

/// A progress bar on standard error, which is hidden unless that is a terminal. Dropping it clears
/// it.
pub struct Bar {
    bar: ProgressBar,
    duration: Option<Duration>,
    what: String,
}

impl Bar {
    /// A bar for a capture of this duration (`None`: until it is ended); hidden if `quiet`.
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

    /// Draws the state of the capture.
    pub fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Attached { sampler, identities, .. } => {
                let names: Vec<_> = identities
                    .iter()
                    .take(3)
                    .map(|id| format!("{} ({})", id.display_name(), id.pid))
                    .collect();
                let more = if identities.len() > 3 { " …" } else { "" };
                self.what = format!("{}{more}, sampler {}", names.join(", "), sampler.name);
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
                let samples = counted(tally.samples, "sample");
                self.bar.set_message(format!("{samples}{lost}; {}. Ctrl-C stops early", self.what));
            }
            Progress::Naming { addresses } => {
                self.bar.set_message(format!("naming {}", counted_as(*addresses, "address", "addresses")));
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
