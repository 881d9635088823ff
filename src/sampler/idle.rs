//! A sampler that takes no samples and only waits, for kinds of profile that compare a reading
//! before with one after. It needs no rights.
//!
//! Not here: reading threads ([`super::look`]).

use std::{thread::sleep, time::Duration};

use super::{Description, Event, Sampler, SamplerError};

/// Its [`Description::name`].
pub const NAME: &str = "look";

/// A sampler that only waits.
pub struct Idle {
    description: Description,
}

impl Idle {
    /// `summary`: one sentence that says what is done instead of sampling.
    pub fn new(summary: &str) -> Idle {
        Idle {
            description: Description {
                name: NAME,
                event: "before and after",
                summary: summary.to_owned(),
                kernel: false,
                buffer_bytes: 0,
                event_count: 0,
            },
        }
    }
}

impl Sampler for Idle {
    fn description(&self) -> &Description {
        &self.description
    }

    fn poll(&mut self, timeout: Duration, _sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        sleep(timeout);
        Ok(())
    }

    fn reports_changes(&self) -> bool {
        false
    }

    fn watch(&mut self, _pid: u32) -> Result<(), SamplerError> {
        Ok(())
    }

    fn unwatch(&mut self, _pid: u32) {}

    fn stop(&mut self) -> Result<(), SamplerError> {
        Ok(())
    }
}
