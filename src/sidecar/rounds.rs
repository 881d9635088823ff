//! The main loop: windows that begin on multiples of a time, processes that come and go, and what
//! companions request.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Action, Companion, Event, Options, Settings, SidecarError, View,
    instant::save_instant_kinds,
    live::{Live, Stepped, Window, sampled_kinds},
    save::{Saving, save, spool_time},
    select::{Scanner, Watched},
};
use crate::{
    capture::{CaptureError, Stop},
    spool::Spool,
};

/// How often processes are searched for, and companions are called.
const TICK: Duration = Duration::from_secs(1);
/// How long a session that failed is not opened again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The most problems that are remembered as reported.
const MAX_REPORTED: usize = 1000;
/// How often a signal is looked for while nothing is sampled.
const NAP: Duration = Duration::from_millis(100);
/// A change of the clock by more than this, compared with the time that has passed, is a step.
const STEP: Duration = Duration::from_secs(60);
/// After this time a step of the clock is taken to be right.
const BELIEVE_STEP_AFTER: Duration = Duration::from_secs(600);

/// Reads the configuration again. Errors: what is wrong with it.
pub type Reload<'a> = &'a mut dyn FnMut() -> Result<Options, String>;

/// A running sidecar.
struct Sidecar<'a> {
    options: Options,
    settings: Settings,
    scanner: Scanner,
    spool: Spool,
    live: Option<Live>,
    companions: &'a mut [&'a mut dyn Companion],
    /// Processes that could not be sampled, by PID and start.
    refused: HashMap<u32, u64>,
    /// When the current window ends; `None`: no window is open.
    window_ends: Option<Instant>,
    /// Whether a session was opened in the current window.
    has_begun: bool,
    /// When the next window begins.
    next_window: Instant,
    next_tick: Instant,
    /// No session is opened before this.
    retry_at: Instant,
    /// What was reported already: a problem that stays is reported once.
    reported: HashSet<String>,
    /// Requested settings, which apply from the next window on.
    wanted: Option<Settings>,
    clock: Clock,
}

/// Runs until `stop` is set. `reload` is called when `reload_requested` is set.
///
/// # Errors
/// The spool cannot be opened, or the times do not fit.
pub fn run<'a>(
    options: Options,
    companions: &'a mut [&'a mut dyn Companion],
    (reload_requested, reload): (&AtomicBool, Reload<'_>),
    stop: &Stop,
) -> Result<(), SidecarError> {
    check(&options)?;
    let (spool, recovery) = Spool::open(&options.spool, options.limits)?;
    let now = Instant::now();
    let mut sidecar = Sidecar {
        settings: options.settings(),
        scanner: Scanner::new(options.rules.clone(), options.label_values),
        spool,
        live: None,
        companions,
        refused: HashMap::new(),
        window_ends: None,
        has_begun: false,
        next_window: if options.is_continuous() { now } else { now + until_multiple(options.every) },
        next_tick: now,
        retry_at: now,
        reported: HashSet::new(),
        wanted: None,
        clock: Clock::new(SystemTime::now(), now),
        options,
    };
    sidecar.report(&Event::Opened(&recovery));
    while !stop.is_set() {
        if reload_requested.swap(false, Ordering::Relaxed) {
            sidecar.reload(reload());
        }
        sidecar.turn(stop);
    }
    sidecar.end();
    Ok(())
}

fn check(options: &Options) -> Result<(), SidecarError> {
    let (window, every) = (options.window, options.every);
    if window > every { Err(SidecarError::WindowTooLong { window, every }) } else { Ok(()) }
}

/// The time until the clock shows a multiple of `every`.
fn until_multiple(every: Duration) -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let every_ns = every.as_nanos().max(1);
    let left = every_ns - since.as_nanos() % every_ns;
    Duration::from_nanos(left.try_into().unwrap_or(u64::MAX))
}

impl Sidecar<'_> {
    /// One turn of the loop: a second at the most, unless something must be opened or written.
    fn turn(&mut self, stop: &Stop) {
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick();
        }
        self.begin_window();
        self.open_session();
        let until = self.next_tick.min(self.window_ends.unwrap_or(self.next_window));
        // A signal ends it soon.
        let soon = until.min(Instant::now() + NAP);
        match self.live.as_mut().map(|live| live.step(soon)) {
            Some(Stepped::Window(window)) => self.save(window),
            Some(Stepped::Over) => self.live_is_over(),
            Some(Stepped::Reached) => {}
            None => sleep_until(until, stop),
        }
        if self.window_ends.is_some_and(|ends| Instant::now() >= ends) {
            self.end_window(None);
        }
    }

    /// What is done once a second.
    fn tick(&mut self) {
        let changes = self.scanner.scan();
        for process in &changes.ended {
            if let Some(live) = &mut self.live {
                live.ended(process.identity.pid);
            }
            self.refused.remove(&process.identity.pid);
            self.report(&Event::Gone(process));
        }
        for process in &changes.dropped {
            if let Some(live) = &mut self.live {
                live.drop_process(process.identity.pid);
            }
            self.report(&Event::Gone(process));
        }
        for process in &changes.added {
            self.report(&Event::Watching(process));
            self.add(process);
        }
        let actions = self.ask_companions();
        actions.into_iter().for_each(|action| self.act(action));
    }

    fn add(&mut self, process: &Arc<Watched>) {
        if let Some(live) = &mut self.live
            && let Err(error) = live.add(process)
        {
            self.refuse(process, &error);
        }
    }

    /// A process cannot be sampled; it is not tried again.
    fn refuse(&mut self, process: &Arc<Watched>, error: &CaptureError) {
        let Some(start) = process.identity.is_alive().then_some(process.identity.start_ticks) else { return };
        if self.refused.insert(process.identity.pid, start) != Some(start) {
            self.report(&Event::Refused { process, error });
        }
    }

    fn ask_companions(&mut self) -> Vec<Action> {
        let watched = self.scanner.watched();
        let base = self.options.settings();
        let view = View {
            watched: &watched,
            settings: &self.settings,
            base: &base,
            spool: self.spool.size(),
            replaced_labels: self.scanner.replaced_labels(),
        };
        self.companions.iter_mut().flat_map(|companion| companion.tick(&view)).collect()
    }

    fn act(&mut self, action: Action) {
        match action {
            // Between two windows there is nothing to end.
            Action::Capture { reason } if self.live.is_some() => self.end_window(Some(reason)),
            Action::Capture { .. } => {}
            Action::Apply(settings) => self.wanted = (settings != self.settings).then_some(settings),
            Action::ApplyNow { settings, reason } => {
                self.end_session(Some(reason));
                self.wanted = None;
                self.apply(settings);
            }
        }
    }

    /// Uses these settings for the next session.
    fn apply(&mut self, settings: Settings) {
        self.report(&Event::Applied(&settings));
        self.settings = settings;
    }

    fn report(&mut self, event: &Event<'_>) {
        self.companions.iter_mut().for_each(|companion| companion.event(event));
    }

    /// Begins a window if its time has come.
    fn begin_window(&mut self) {
        let now = Instant::now();
        if self.window_ends.is_some() || now < self.next_window {
            return;
        }
        if let Some(settings) = self.wanted.take() {
            self.end_session(None);
            self.apply(settings);
        }
        let every = self.options.every;
        let mut left = until_multiple(every);
        // A window that would be very short, because the timer came early, is made longer.
        if left < every / 10 {
            left += every;
        }
        self.next_window = now + left;
        let window = if self.options.is_continuous() { left } else { self.options.window };
        self.window_ends = Some(now + window);
        self.has_begun = false;
    }

    /// Opens a session if a window is open and a process is watched.
    fn open_session(&mut self) {
        if self.live.is_some() || self.window_ends.is_none() || Instant::now() < self.retry_at {
            return;
        }
        let refused = &self.refused;
        let is_tried = |process: &Arc<Watched>| {
            refused.get(&process.identity.pid) != Some(&process.identity.start_ticks)
        };
        let watched: Vec<Arc<Watched>> = self.scanner.watched().into_iter().filter(is_tried).collect();
        if watched.is_empty() || sampled_kinds(&self.settings.kinds).is_empty() {
            return;
        }
        match Live::open(&self.options.request, &self.settings, &watched) {
            Ok((mut live, refused)) => {
                for outcome in live.take_refused() {
                    if let Err(error) = &outcome.result
                        && self.is_news(&format!("{}: {error}", outcome.kind.name))
                    {
                        self.report(&Event::KindRefused { kind: outcome.kind, error });
                    }
                }
                self.live = Some(live);
                self.begin_sampling();
                refused.iter().for_each(|(process, error)| self.refuse(process, error));
            }
            Err(error) => {
                self.retry_at = Instant::now() + RETRY_AFTER;
                // What stands for one stands for all: none of them can be sampled now.
                if let Some(process) = watched.first().filter(|_| self.is_news(&error.to_string())) {
                    self.report(&Event::Refused { process, error: &error });
                }
            }
        }
    }

    /// Whether a text was not reported yet.
    fn is_news(&mut self, text: &str) -> bool {
        if self.reported.len() >= MAX_REPORTED {
            self.reported.clear();
        }
        self.reported.insert(text.to_owned())
    }

    /// Sampling has begun: a window with a pause after it lasts as long as stated from now on.
    fn begin_sampling(&mut self) {
        if !self.options.is_continuous() && !std::mem::replace(&mut self.has_begun, true) {
            let ends = Instant::now() + self.options.window;
            self.window_ends = Some(ends.min(self.next_window));
        }
    }

    /// Ends the current window.
    fn end_window(&mut self, mark: Option<String>) {
        self.report(&Event::WindowEnded { mark: mark.as_deref() });
        let is_early = mark.is_some();
        if self.options.is_continuous() || is_early {
            if let Some(live) = &mut self.live {
                // If names are late, the samples are in the next window.
                let _ = live.end_window(mark.clone());
            }
        } else {
            self.end_session(mark.clone());
        }
        let saving = Saving { mark: mark.as_deref(), ..self.saving() };
        let watched = self.scanner.watched();
        let mut events = Events(&mut *self.companions);
        let mut report = |event: &Event<'_>| events.report(event);
        save_instant_kinds(&mut self.spool, &self.settings, &watched, saving, &mut report);
        // One that ended early goes on until its time.
        if !is_early {
            self.window_ends = None;
            self.retain();
        }
    }

    /// Sampling has ended by itself: all processes have ended, or the sampler failed.
    fn live_is_over(&mut self) {
        self.live = None;
        self.retry_at = Instant::now() + TICK;
    }

    /// Ends sampling, and writes all that was sampled.
    fn end_session(&mut self, mark: Option<String>) {
        if let Some(live) = self.live.take() {
            live.finish(mark).into_iter().for_each(|window| self.save(window));
        }
    }

    fn end(&mut self) {
        self.end_session(None);
        self.retain();
    }

    fn saving(&self) -> Saving<'static> {
        let share = (self.scanner.rules().share, self.scanner.not_in_share());
        Saving { per_process: self.options.per_process, mark: None, share }
    }

    fn save(&mut self, window: Window) {
        let saving = Saving { mark: window.mark.as_deref(), ..self.saving() };
        let mut events = Events(&mut *self.companions);
        for outcome in &window.outcomes {
            save(&mut self.spool, outcome, &window.members, saving, &mut |event| events.report(event));
        }
        self.retain();
    }

    fn retain(&mut self) {
        let now = self.clock.now(SystemTime::now(), Instant::now());
        let removed = self.spool.retain(spool_time(now));
        if removed > 0 {
            self.report(&Event::Removed(removed));
        }
    }

    fn reload(&mut self, options: Result<Options, String>) {
        match options.and_then(|options| check(&options).map(|()| options).map_err(|error| error.to_string()))
        {
            Ok(options) => {
                self.scanner.set_rules(options.rules.clone());
                self.spool.set_limits(options.limits);
                self.wanted = Some(options.settings());
                self.refused.clear();
                self.reported.clear();
                // The spool stays where it is.
                self.options = Options { spool: self.options.spool.clone(), ..options };
                self.next_tick = Instant::now();
                self.report(&Event::Reloaded);
            }
            Err(why) => self.report(&Event::ReloadFailed(&why)),
        }
    }
}

/// Tells all companions of an event.
struct Events<'a, 'b>(&'a mut [&'b mut dyn Companion]);

impl Events<'_, '_> {
    fn report(&mut self, event: &Event<'_>) {
        self.0.iter_mut().for_each(|companion| companion.event(event));
    }
}

fn sleep_until(until: Instant, stop: &Stop) {
    while !stop.is_set() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(NAP));
    }
}

/// The time of day for deciding what is too old. A step of the clock is believed after a while
/// only, so that a wrong date does not remove all profiles.
struct Clock {
    wall: SystemTime,
    at: Instant,
    stepped_at: Option<Instant>,
}

impl Clock {
    fn new(wall: SystemTime, at: Instant) -> Clock {
        Clock { wall, at, stepped_at: None }
    }

    fn now(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        let expected = self.wall + at.saturating_duration_since(self.at);
        let difference = wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        if difference > STEP {
            let since = *self.stepped_at.get_or_insert(at);
            if at.saturating_duration_since(since) < BELIEVE_STEP_AFTER {
                return expected;
            }
        }
        *self = Clock::new(wall, at);
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_clock_is_believed_after_a_while() {
        let (start, began) = (UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let seconds = Duration::from_secs;
        let mut clock = Clock::new(start, began);
        assert_eq!(clock.now(start + seconds(11), began + seconds(10)), start + seconds(11));
        let stepped = start + seconds(10_000_000);
        assert_eq!(clock.now(stepped, began + seconds(20)), start + seconds(21));
        assert_eq!(
            clock.now(start + seconds(31), began + seconds(30)),
            start + seconds(31),
            "it was set back"
        );
        clock.now(stepped, began + seconds(40));
        assert_eq!(clock.now(stepped + seconds(599), began + seconds(639)), start + seconds(640));
        assert_eq!(clock.now(stepped + seconds(600), began + seconds(640)), stepped + seconds(600));
    }

    #[test]
    fn windows_begin_on_multiples_of_their_time() {
        let left = until_multiple(Duration::from_secs(3600));
        assert!(left <= Duration::from_secs(3600) && !left.is_zero());
        let at = SystemTime::now() + left;
        let since = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() / 3600.0;
        assert!((since - since.round()).abs() < 0.01, "{since}");
    }
}
