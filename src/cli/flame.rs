//! `rprof flame FILE -o x.svg|x.html`: a flame graph of what the options leave of a profile, alone or
//! compared with another.
//!
//! Not here: how it is drawn (`report::flame`).

use std::{io, path::Path};

use anyhow::{Result, anyhow, bail};

use super::{args::FlameArgs, report};
use crate::{
    profile::{
        columns::{Columns, scale},
        decode, file,
    },
    report::{OutputFormat, RenderOptions, flame::compare, pprof, render},
};

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
            options.compared_with = Some(compare::BASE_KIND.into());
            compare::together(base?, new?).map_err(|error| anyhow!(error))?
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
    let draw = |writer: &mut dyn io::Write| Ok(render(&profile, format, &options, writer)?);
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
