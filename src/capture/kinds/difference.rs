//! What changed between two readings of an instant profile.

use super::super::CaptureError;
use crate::profile::{
    columns::{merge, parse},
    decode,
    proto::Profile,
};

/// `last` minus `first`. Its time is that of `last`, its duration the time between them, as in
/// net/http/pprof.
///
/// # Errors
/// [`CaptureError::Incomparable`] when the two cannot be combined.
pub fn difference(first: &Profile, last: &Profile) -> Result<Profile, CaptureError> {
    let columns = |profile: &Profile| {
        parse::of_profile(profile).map_err(|error| CaptureError::Incomparable(format!("{error:?}")))
    };
    let mut before = columns(first)?;
    before.scale(-1.0);
    let merged = merge::merge(vec![before, columns(last)?]).map_err(CaptureError::Incomparable)?;
    let changed = decode(&merged.encode()).map_err(|error| CaptureError::Incomparable(error.to_string()))?;
    let duration_nanos = last.time_nanos.saturating_sub(first.time_nanos);
    Ok(Profile { time_nanos: last.time_nanos, duration_nanos, ..changed })
}
