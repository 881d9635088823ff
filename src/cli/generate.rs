//! `rprof generate`: manual pages and completions, made from the declaration of the command line.
//! Packages carry them (`scripts/package`); whoever has only the binary makes them with it.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;

use super::args::Cli;

#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// Print completions for a shell.
    Completions { shell: Shell },
    /// Write manual pages, one for rprof and one for each verb, into a folder.
    Man { folder: PathBuf },
}

/// Writes what is asked for.
///
/// # Errors
/// The folder or a file in it cannot be written.
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
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            clap_mangen::generate_to(Cli::command(), folder)
                .with_context(|| format!("cannot write manual pages to {}", folder.display()))
        }
    }
}
