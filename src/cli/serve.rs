//! `rprof serve`: `/debug/pprof/` of any process over HTTP.

use anyhow::{Error, Result, anyhow, bail};

use super::{advice, args::ServeArgs, pprof::web, sampling, signals};
use crate::{
    serve::{self, Access, Address, Door, Limits, Options, Targets, TlsFiles},
    text::shell::quote_path,
};

/// Runs the verb until a signal ends it.
pub fn run(arguments: ServeArgs) -> Result<()> {
    let stop = signals::stop_on_signals()?;
    let targets = targets(&arguments)?;
    let quiet = arguments.quiet;
    let mut door = Door::new(arguments.listen.clone(), access(&arguments)?);
    // Each running capture holds a connection.
    door.connections += usize::from(arguments.max_captures);
    let options = Options {
        door,
        targets,
        request: sampling::request(&arguments.sampling, &arguments.debug),
        limits: Limits {
            max_seconds: arguments.max_seconds,
            captures: arguments.max_captures.into(),
            max_response_bytes: arguments.max_bytes,
        },
        show_arguments: arguments.show_arguments,
        explain: |error| advice::explain(&Error::new(error)),
    };
    let scheme = if arguments.tls_cert.is_some() { "https" } else { "http" };
    let tools =
        web::tools_for_others(&arguments.source_path).map_err(|why| anyhow!("--source-path: {why}"))?;
    serve::run(options, tools, &stop, |address| {
        if !quiet {
            super::say(&match address {
                Address::Tcp(address) => format!(
                    "serving {scheme}://{address}/debug/pprof/\n\
                     web pages: {scheme}://{address}/ui/   (capture and view)\n\
                     try: go tool pprof {scheme}://{address}/debug/pprof/profile?seconds=10   (Ctrl-C stops serving)"
                ),
                Address::Unix(path) => format!(
                    "serving unix:{}\ntry: curl --unix-socket {} http://localhost/debug/pprof/   (Ctrl-C stops serving)",
                    path.display(),
                    quote_path(path)
                ),
            });
        }
    })?;
    Ok(())
}

fn targets(arguments: &ServeArgs) -> Result<Targets> {
    if arguments.all_mine {
        return Ok(Targets::AllMine);
    }
    let selectors = &arguments.processes.selectors;
    let (filter, children) = (selectors.filter(), selectors.children);
    if !filter.is_empty() {
        if !selectors.pid.is_empty() {
            bail!("--pid cannot be combined with {}: serve one or the other", selectors.conditions());
        }
        return Ok(Targets::Matching { filter, children, any_user: arguments.any_user });
    }
    // A process that does not exist now is a mistake; later it may end.
    let pids = arguments.processes.choose(arguments.quiet)?;
    let targets = Targets::of_pids(&pids)?;
    Ok(if children { targets.with_children() } else { targets })
}

fn access(arguments: &ServeArgs) -> Result<Access> {
    let tls = arguments.tls_cert.clone().zip(arguments.tls_key.clone());
    Ok(Access {
        token: arguments.token_file.as_deref().map(Access::read_token).transpose()?,
        tls: tls.map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_ca: arguments.tls_client_ca.clone(),
        }),
        hosts: arguments.allow_host.clone(),
    })
}
