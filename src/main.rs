//! The `rprof` program: passes the command line to [`rprof::cli::run`].

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rprof::cli::run(std::env::args_os())
}
