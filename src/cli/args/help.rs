//! The arguments of `rprof help`.

use clap::Args;

/// The arguments of `rprof help`.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A verb (attach, dump ...) or a document (permissions, sidecar ...).
    #[arg(value_name = "VERB|DOCUMENT")]
    pub words: Vec<String>,
}
