//! `rprof flame FILE -o x.svg|x.html`: a flame graph of a filtered profile, alone or compared with
//! another.
//!
//! `report::flame` draws it.

use std::{io, path::Path};

use anyhow::{Result, anyhow, bail};

use super::{args::FlameArgs, output::file_options, report};
use crate::{
    profile::{
        columns::{Columns, scale},
        decode, file,
    },
    report::{OutputFormat, RenderOptions, flame::compare, pprof, render},
};

/// Runs the verb.
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
    file::write_file(path, &file_options(arguments.file_mode), draw)?;
    super::say(&format!("wrote {}", path.display()));
    Ok(())
}

/// The profile after filtering, with only the selected value.
fn measured(columns: Columns, arguments: &FlameArgs) -> Result<Columns> {
    let granularity = arguments.counted.settings.granularity.as_str();
    if ["lines", "addresses"].contains(&granularity) {
        bail!("a flame graph shows functions or files: omit --{granularity}");
    }
    let mut messages = Vec::new();
    let filtered = pprof::filtered(columns, &arguments.counted.settings, &mut messages);
    // A flame graph shows no numeric labels, so warnings about their units do not matter.
    messages.retain(|message| !message.starts_with("For tag "));
    messages.iter().for_each(|message| super::say(&format!("warning: {message}")));
    let (mut columns, value) = filtered.map_err(|error| anyhow!(error))?;
    columns.select_values(&[value]);
    if granularity == "files" {
        columns.functions.iter_mut().for_each(|function| function.name = function.file);
    }
    Ok(columns)
}
