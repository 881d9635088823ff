//! `rprof flame FILE -o x.svg|x.html`: a flame graph of what the options leave of a profile, alone or
//! compared with another.
//!
//! Not here: how it is drawn (`report::flame`).

use std::{io, path::Path};

use anyhow::{Result, anyhow, bail};

use super::{args::FlameArgs, report};
use crate::{
    profile::{
        columns::{Columns, merge, scale},
        decode, file,
    },
    report::{OutputFormat, RenderError, RenderOptions, pprof, render},
};

/// Name of the value of the profile compared with, in the profile made of both.
const BASE_KIND: &str = "base";

pub fn run(arguments: &FlameArgs) -> Result<()> {
    let path = &arguments.output;
    let is_stdout = path == Path::new("-");
    let format = if is_stdout { OutputFormat::Svg } else { OutputFormat::from_path(path)? };
    let mut options = RenderOptions { by_thread: arguments.by_thread, ..RenderOptions::default() };
    let columns = match &arguments.diff {
        None => measured(report::read(&arguments.files)?, arguments)?,
        Some(base) => {
            let mut both = [report::read(std::slice::from_ref(base))?, report::read(&arguments.files)?];
            scale::keep_common_kinds(&mut both).map_err(|error| anyhow!(error))?;
            scale::to_finest_units(&mut both).map_err(|error| anyhow!(error))?;
            let [base, new] = both.map(|columns| measured(columns, arguments));
            options.compared_with = Some(BASE_KIND.into());
            together(base?, new?)?
        }
    };
    let kind = columns.header.kinds.first().copied().unwrap_or_default();
    options.sample_type = Some(columns.text(kind.name).into());
    let profile = decode::decode(&columns.encode())?;
    if is_stdout {
        let mut bytes = Vec::new();
        render(&profile, format, &options, &mut bytes)?;
        return report::to_stdout(&bytes);
    }
    let draw = |writer: &mut dyn io::Write| {
        render(&profile, format, &options, writer).map_err(|error| match error {
            RenderError::Io(error) => error,
            other => io::Error::other(other),
        })
    };
    file::write_atomically(path, draw)?;
    super::say(&format!("wrote {}", path.display()));
    Ok(())
}

/// What the options leave of a profile, with the one value that is measured.
fn measured(columns: Columns, arguments: &FlameArgs) -> Result<Columns> {
    let granularity = arguments.counted.settings.granularity.as_str();
    if ["lines", "addresses"].contains(&granularity) {
        bail!("the boxes of a flame graph are functions or files: leave --{granularity} out");
    }
    let mut messages = Vec::new();
    let filtered = pprof::filtered(columns, &arguments.counted.settings, &mut messages);
    // A flame graph has no labels' numbers, whose units may differ.
    messages.retain(|message| !message.starts_with("For tag "));
    messages.iter().for_each(|message| super::say(&format!("warning: {message}")));
    let (mut columns, value) = filtered.map_err(|error| anyhow!(error))?;
    columns.select_values(&[value]);
    if granularity == "files" {
        columns.functions.iter_mut().for_each(|function| function.name = function.file);
    }
    Ok(columns)
}

/// One profile of two, with a value of its own for each.
fn together(mut base: Columns, mut new: Columns) -> Result<Columns> {
    for (columns, empty) in [(&mut base, 0), (&mut new, 1)] {
        columns.select_values(&[0, 0]);
        columns.header.kinds[1].name = columns.intern(BASE_KIND);
        columns.header.default_kind = 0;
        columns.change_values(|values| {
            values[empty] = 0;
            true
        });
    }
    let (duration_ns, time_ns) = (new.header.duration_ns, new.header.time_ns);
    let mut merged = merge::merge(&[new, base]).map_err(|error| anyhow!(error))?;
    (merged.header.duration_ns, merged.header.time_ns) = (duration_ns, time_ns);
    Ok(merged)
}
