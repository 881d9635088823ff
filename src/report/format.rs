//! The output formats of a profile, selected by name or file extension.
//!
//! Not here: the formats themselves, opening files.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    str::FromStr,
};

use super::{
    flame::{self, FlameOptions},
    folded::write_folded,
    speedscope::write_speedscope,
    stacks::Stacks,
};
use crate::profile::{Profile, write_gzip};

/// An output format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutputFormat {
    /// pprof's protobuf, always gzipped.
    Pprof,
    /// Folded stacks.
    Folded,
    /// A flame graph, interactive in a browser.
    Svg,
    /// The same as a page of HTML.
    Html,
    /// speedscope's JSON.
    Speedscope,
}

/// Formats with their names and extensions, the usual extension first.
const FORMATS: [(OutputFormat, &str, &[&str]); 5] = [
    (OutputFormat::Pprof, "pprof", &[".pb.gz", ".pb", ".pprof"]),
    (OutputFormat::Folded, "folded", &[".folded", ".txt"]),
    (OutputFormat::Svg, "svg", &[".svg"]),
    (OutputFormat::Html, "html", &[".html", ".htm"]),
    (OutputFormat::Speedscope, "speedscope", &[".speedscope.json", ".json"]),
];

/// Why an output format is unknown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There is no format with this name.
    #[error("unknown format `{name}`; the formats are {}", supported())]
    Name {
        /// The unknown name.
        name: String,
    },
    /// The file's extension is not that of a format.
    #[error("the extension of `{file}` is not that of a format; known are {}", supported())]
    Extension {
        /// The file name.
        file: String,
    },
}

fn supported() -> String {
    let each = FORMATS.iter().map(|(_, name, extensions)| format!("{name} ({})", extensions.join(" ")));
    each.collect::<Vec<_>>().join(", ")
}

impl OutputFormat {
    /// The format of a file name's extension. Errors: the extension is unknown.
    pub fn from_path(path: &Path) -> Result<OutputFormat, FormatError> {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let lower = file.to_ascii_lowercase();
        let found =
            FORMATS.iter().find(|(_, _, extensions)| extensions.iter().any(|end| lower.ends_with(end)));
        found.map(|(format, _, _)| *format).ok_or_else(|| FormatError::Extension { file: file.into_owned() })
    }

    /// The usual extension, with its dot.
    pub fn extension(self) -> &'static str {
        self.entry().2[0]
    }

    fn entry(self) -> &'static (OutputFormat, &'static str, &'static [&'static str]) {
        FORMATS.iter().find(|(format, _, _)| *format == self).expect("every format has an entry")
    }
}

impl FromStr for OutputFormat {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<OutputFormat, FormatError> {
        let found = FORMATS.iter().find(|(_, known, extensions)| {
            known.eq_ignore_ascii_case(name)
                || extensions.iter().any(|end| end[1..].eq_ignore_ascii_case(name))
        });
        found.map(|(format, _, _)| *format).ok_or_else(|| FormatError::Name { name: name.to_string() })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().1)
    }
}

/// Options of writing a profile. [`OutputFormat::Pprof`] ignores them: it has everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// The sample type whose values are written (`samples`, `cpu` …). `None`: the profile's
    /// default; for folded stacks `samples`, if the profile has it.
    pub sample_type: Option<String>,
    /// Folded stacks and flame graphs: the thread's name as the first frame.
    pub by_thread: bool,
    /// Flame graphs: the heading. `None`: derived from the profile.
    pub title: Option<String>,
    /// Flame graphs: a sample type to compare with; colours show how shares have changed.
    pub compared_with: Option<String>,
}

/// Why a profile was not written.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The profile does not have the requested sample type.
    #[error("the profile has no sample type `{requested}`; it has {}", .known.join(", "))]
    NoSuchSampleType {
        /// The requested sample type.
        requested: String,
        /// The profile's sample types.
        known: Vec<String>,
    },
    /// The profile has no sample types.
    #[error("the profile has no sample types, and so no values")]
    NoValues,
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<RenderError> for io::Error {
    fn from(error: RenderError) -> io::Error {
        match error {
            RenderError::Io(error) => error,
            other => io::Error::other(other),
        }
    }
}

/// Writes `profile` in `format`. Errors: the sample type is missing, or those of the writer.
pub fn render(
    profile: &Profile,
    format: OutputFormat,
    options: &RenderOptions,
    writer: impl Write,
) -> Result<(), RenderError> {
    if format == OutputFormat::Pprof {
        return Ok(write_gzip(profile, writer)?);
    }
    let value_index = value_index(profile, format, options)?;
    let stacks = Stacks::new(profile);
    match format {
        OutputFormat::Folded => write_folded(&stacks, value_index, options.by_thread, writer)?,
        OutputFormat::Speedscope => write_speedscope(&stacks, value_index, writer)?,
        OutputFormat::Svg | OutputFormat::Html | OutputFormat::Pprof => {
            let compared_with = options.compared_with.as_ref();
            let flame = FlameOptions {
                by_thread: options.by_thread,
                title: options.title.clone(),
                compared_with: compared_with.and_then(|name| profile.sample_type_index(name)),
                is_page: format == OutputFormat::Html,
                ..FlameOptions::default()
            };
            flame::write_flame(&stacks, value_index, &flame, writer)?;
        }
    }
    Ok(())
}

fn value_index(
    profile: &Profile,
    format: OutputFormat,
    options: &RenderOptions,
) -> Result<usize, RenderError> {
    if let Some(name) = &options.sample_type {
        let known =
            || profile.sample_type.iter().map(|kind| profile.string(kind.r#type).to_string()).collect();
        let found = profile.sample_type_index(name);
        return found
            .ok_or_else(|| RenderError::NoSuchSampleType { requested: name.clone(), known: known() });
    }
    let counts = (format == OutputFormat::Folded).then(|| profile.sample_type_index("samples")).flatten();
    counts.or_else(|| profile.default_value_index()).ok_or(RenderError::NoValues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LineSpec, decode};

    #[test]
    fn the_extension_selects_the_format() {
        let formats = ["a.pb.gz", "dir.svg/a.PB", "a.pprof", "a.folded", "a.txt", "a.svg", "a.json"]
            .map(|name| OutputFormat::from_path(Path::new(name)).unwrap().to_string());
        assert_eq!(formats, ["pprof", "pprof", "pprof", "folded", "folded", "svg", "speedscope"]);
    }

    #[test]
    fn the_error_for_an_unknown_format_lists_the_known_ones() {
        let error = OutputFormat::from_path(Path::new("/tmp/a.gif")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the extension of `a.gif` is not that of a format; known are pprof (.pb.gz .pb .pprof), folded (.folded .txt), \
             svg (.svg), html (.html .htm), speedscope (.speedscope.json .json)"
        );
        assert!("gif".parse::<OutputFormat>().unwrap_err().to_string().starts_with("unknown format `gif`"));
        assert_eq!("JSON".parse(), Ok(OutputFormat::Speedscope));
        assert_eq!("pprof".parse(), Ok(OutputFormat::Pprof));
    }

    #[test]
    fn each_format_is_written_with_the_requested_values() {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        let function = builder.function("main", "main", "", 0);
        let main = builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }]);
        builder.sample(&[main], &[3, 30], &[]);
        let profile = builder.finish();
        let render_with = |format, sample_type: Option<&str>| {
            let options = RenderOptions { sample_type: sample_type.map(String::from), ..Default::default() };
            let mut bytes = Vec::new();
            render(&profile, format, &options, &mut bytes).map(|()| bytes)
        };
        assert_eq!(render_with(OutputFormat::Folded, None).unwrap(), b"main 3\n");
        assert_eq!(render_with(OutputFormat::Folded, Some("cpu")).unwrap(), b"main 30\n");
        assert!(decode(&render_with(OutputFormat::Pprof, None).unwrap()).unwrap() == profile);
        assert!(render_with(OutputFormat::Svg, None).unwrap().starts_with(b"<?xml"));
        assert!(render_with(OutputFormat::Speedscope, None).unwrap().starts_with(b"{"));
        let error = render_with(OutputFormat::Svg, Some("heap")).unwrap_err().to_string();
        assert_eq!(error, "the profile has no sample type `heap`; it has samples, cpu");
    }
}
