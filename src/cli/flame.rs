//! `rprof flame FILE`: a flame graph of a filtered profile, alone or compared with another; as text
//! on a terminal, or with `-o x.svg|x.html` as a file.
//!
//! `report::flame` draws it.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::{Result, anyhow, bail};

use super::{
    args::{ColorArg, FlameArgs, stdout_size},
    output::file_options,
    report,
};
use crate::{
    profile::{
        columns::{Columns, scale},
        decode, file,
        proto::Profile,
    },
    report::{
        OutputFormat, RenderOptions,
        flame::{
            FlameOptions, compare,
            terminal::{Colors, TextFlame, write_text},
        },
        paint, pprof, render,
        stacks::Stacks,
    },
};

/// Runs the verb.
pub fn run(arguments: &FlameArgs) -> Result<()> {
    let is_stdout = arguments.output.as_deref().is_none_or(|path| path == Path::new("-"));
    let format = match &arguments.output {
        Some(path) if !is_stdout => OutputFormat::from_path(path)?,
        _ => OutputFormat::Svg,
    };
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
    let Some(path) = &arguments.output else { return print(&profile, &options, arguments) };
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

/// Rows of a terminal that are not boxes: the heading, the legend, notes, the next prompt.
const OTHER_ROWS: usize = 5;
/// The most rows where there is no terminal.
const DEFAULT_ROWS: usize = 60;
/// The width where there is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// Prints the flame graph as text.
fn print(profile: &Profile, options: &RenderOptions, arguments: &FlameArgs) -> Result<()> {
    let size = stdout_size();
    let rows = size.map_or(DEFAULT_ROWS, |(_, height)| height.saturating_sub(OTHER_ROWS).max(10));
    let text = TextFlame {
        width: size.map_or(DEFAULT_WIDTH, |(width, _)| width),
        rows: arguments.depth.unwrap_or(rows),
        colors: colors(arguments.color),
        full_names: arguments.full_names,
    };
    let value = options.sample_type.as_deref().and_then(|name| profile.sample_type_index(name));
    let base = options.compared_with.as_deref().and_then(|name| profile.sample_type_index(name));
    let flame = FlameOptions { by_thread: options.by_thread, compared_with: base, ..FlameOptions::default() };
    let mut bytes = Vec::new();
    write_text(&Stacks::new(profile), value.unwrap_or(0), &flame, &text, &mut bytes)?;
    report::to_stdout(&bytes)
}

/// The colours of the terminal.
fn colors(when: ColorArg) -> Colors {
    let variable = |name: &str| std::env::var(name).ok();
    let wanted = match when {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => paint::is_wanted(variable) && std::io::stdout().is_terminal(),
    };
    match variable("COLORTERM").as_deref() {
        _ if !wanted => Colors::None,
        Some("truecolor" | "24bit") => Colors::True,
        _ => Colors::Palette,
    }
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
