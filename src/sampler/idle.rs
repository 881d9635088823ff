//! A sampler that catches nothing and lets time pass: for what is learnt by looking at threads before and
//! after. It works with any rights.
//!
//! Not here: the looking ([`super::look`]).

use std::{thread::sleep, time::Duration};

use super::{Description, Event, Sampler, SamplerError};

/// What [`Description::name`] calls it.
pub const NAME: &str = "look";

/// Lets time pass.
pub struct Idle {
    description: Description,
}

impl Idle {
    /// `summary` says in a sentence what is done instead of sampling.
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

    fn stop(&mut self) -> Result<(), SamplerError> {
        Ok(())
    }
}
