//! Converts profiles to the same kinds and units, and scales their values.
//!
//! Not here: merging them ([`super::merge`]).

use super::{Columns, SampleKind};
use crate::{profile::unit, text::go};

impl Columns {
    /// Multiplies each kind's values by its ratio, rounding half away from zero; samples whose
    /// scaled values are all zero are dropped.
    pub fn scale_each(&mut self, ratios: &[f64]) {
        if ratios.iter().all(|ratio| *ratio == 1.0) {
            return;
        }
        self.change_values(|values| {
            let mut keep = false;
            for (value, ratio) in values.iter_mut().zip(ratios) {
                if *ratio != 1.0 {
                    *value = go::truncate((*value as f64 * ratio).round());
                    keep |= *value != 0;
                }
            }
            keep
        });
    }

    /// Multiplies all values by `ratio`.
    pub fn scale(&mut self, ratio: f64) {
        self.scale_each(&vec![ratio; self.header.kinds.len()]);
    }

    /// Scales each kind's values so that their sum equals that of `base`.
    pub fn normalize(&mut self, base: &Columns) -> Result<(), String> {
        compatible(self, base)?;
        let ratio = |at: usize| match self.sum(at) {
            0 => 0.0,
            own => base.sum(at) as f64 / own as f64,
        };
        let ratios: Vec<f64> = (0..self.header.kinds.len()).map(ratio).collect();
        self.scale_each(&ratios);
        Ok(())
    }

    fn sum(&self, kind: usize) -> i64 {
        (0..self.sample_count()).fold(0, |sum, sample| sum.wrapping_add(self.values(sample)[kind]))
    }

    fn show(&self, kind: SampleKind) -> String {
        format!("{{{} {} 0 0}}", self.text(kind.name), self.text(kind.unit))
    }
}

/// Whether two profiles measure the same.
pub(super) fn compatible(one: &Columns, other: &Columns) -> Result<(), String> {
    let show =
        |p: &Columns, kind: SampleKind| format!("&{{{} {} 0 0}}", p.text(kind.name), p.text(kind.unit));
    let equal = |a: SampleKind, b: SampleKind| {
        one.text(a.name) == other.text(b.name) && one.text(a.unit) == other.text(b.unit)
    };
    let (a, b) = (&one.header, &other.header);
    if !equal(a.period_kind, b.period_kind) {
        let (a, b) = (show(one, a.period_kind), show(other, b.period_kind));
        return Err(format!("incompatible period types {a} and {b}"));
    }
    if a.kinds.len() != b.kinds.len() || !a.kinds.iter().zip(&b.kinds).all(|(a, b)| equal(*a, *b)) {
        let list = |p: &Columns| {
            let kinds: Vec<_> = p.header.kinds.iter().map(|kind| show(p, *kind)).collect();
            format!("[{}]", kinds.join(" "))
        };
        return Err(format!("incompatible sample types {} and {}", list(one), list(other)));
    }
    Ok(())
}

/// Keeps only the kinds that all profiles have, in the order of the first.
pub fn keep_common_kinds(profiles: &mut [Columns]) -> Result<(), String> {
    let Some(first) = profiles.first() else { return Ok(()) };
    let count = |name: &str| {
        let kinds = profiles.iter().flat_map(|p| p.header.kinds.iter().map(move |kind| p.text(kind.name)));
        kinds.filter(|other| *other == name).count()
    };
    let names = first.header.kinds.iter().map(|kind| first.text(kind.name).to_string());
    let names: Vec<String> = names.filter(|name| count(name) == profiles.len()).collect();
    if names.is_empty() {
        return Err("profiles have empty common sample type list".into());
    }
    for profile in profiles {
        let find = |name: &String| {
            let found = profile.header.kinds.iter().position(|kind| profile.text(kind.name) == name);
            found.ok_or_else(|| format!("{} sample type is not found in profile", go::quote(name)))
        };
        let order: Vec<usize> = names.iter().map(find).collect::<Result<_, _>>()?;
        if order.len() == profile.header.kinds.len() && order.iter().enumerate().all(|(i, at)| i == *at) {
            continue;
        }
        let default = profile.text(profile.header.default_kind);
        let default = names.iter().find(|name| *name == default).unwrap_or(&names[0]);
        profile.header.default_kind = profile.intern(&default.clone());
        profile.select_values(&order);
    }
    Ok(())
}

/// Converts all profiles to the finest unit that any of them uses, for each kind.
pub fn to_finest_units(profiles: &mut [Columns]) -> Result<(), String> {
    if profiles.len() <= 1 {
        return Ok(());
    }
    let period_unit = {
        let kinds: Vec<_> = profiles.iter().map(|profile| (profile, profile.header.period_kind)).collect();
        finest(&kinds).map_err(|error| format!("period type: {error}"))?
    };
    let mut units = Vec::new();
    for at in 0..profiles[0].header.kinds.len() {
        let kinds: Vec<_> = profiles.iter().map(|profile| (profile, profile.header.kinds[at])).collect();
        units.push(finest(&kinds).map_err(|error| format!("sample types: {error}"))?);
    }
    for profile in profiles {
        let header = &profile.header;
        let (period, _) = unit::scale(header.period, profile.text(header.period_kind.unit), &period_unit);
        profile.header.period = go::truncate(period);
        profile.header.period_kind.unit = profile.intern(&period_unit);
        let mut ratios = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            ratios.push(unit::scale(1, profile.text(profile.header.kinds[at].unit), unit).0);
            profile.header.kinds[at].unit = profile.intern(unit);
        }
        profile.scale_each(&ratios);
    }
    Ok(())
}

/// The finest unit of kinds that must have the same dimension.
fn finest(kinds: &[(&Columns, SampleKind)]) -> Result<String, String> {
    let mut finest = kinds[0];
    for other in &kinds[1..] {
        let name = |(profile, kind): &(&Columns, SampleKind)| {
            let name = profile.text(kind.name);
            name.strip_suffix('s').unwrap_or(name).to_string()
        };
        let unit = |(profile, kind): &(&Columns, SampleKind)| profile.text(kind.unit).to_string();
        if name(&finest) != name(other) || !unit::comparable(&unit(&finest), &unit(other)) {
            let (one, other) = (finest.0.show(finest.1), other.0.show(other.1));
            return Err(format!("incompatible types: {one} {other}"));
        }
        if unit::scale(1, &unit(other), &unit(&finest)).0 < 1.0 {
            finest = *other;
        }
    }
    Ok(finest.0.text(finest.1.unit).to_string())
}
