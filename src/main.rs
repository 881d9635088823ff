//! Gives the command line to `cli::run` and its verdict to the operating system; nothing else.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rprof::cli::run(std::env::args_os())
}
