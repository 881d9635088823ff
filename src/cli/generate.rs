//! `rprof generate`: manual pages and completions, from the declaration of the command line.
//! Packages contain them (`scripts/package`); users of the bare binary can make them.

use std::{
    fs,
    io::{self, Write},
};

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::args::{Cli, GenerateArgs, What};

/// Runs the verb.
///
/// # Errors
/// The directory or a file in it cannot be written.
pub fn run(arguments: &GenerateArgs) -> Result<()> {
    match &arguments.what {
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "rprof", &mut text);
            // A closed pipe (`| head`) is no error.
            let _: io::Result<()> = io::stdout().write_all(&text);
            Ok(())
        }
        What::Man { folder } => {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            clap_mangen::generate_to(Cli::command(), folder)
                .with_context(|| format!("cannot write manual pages to {}", folder.display()))
        }
    }
}
