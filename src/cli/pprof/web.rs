//! `-http`: the pages of a profile, until told to stop.
//!
//! Not here: the pages (`web`), who may look at them (`serve`).

use std::{path::Path, process::Command as Process};

use super::{Flags, binaries, drawing, viewer};
use crate::{
    cli::attach,
    profile::columns::Columns,
    serve::{self, Access, Address, Door},
    web::{Loaded, Site},
};

/// Where to listen: `[host]:[port]`. No host is this machine alone, no port is any.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let refused = |why: &str| Err(format!("could not split http address: address {text}: {why}"));
    let Some((host, port)) = text.rsplit_once(':') else { return refused("missing port in address") };
    let port = if port.is_empty() { "0" } else { port };
    format!("{host}:{port}").parse().or_else(|error: String| refused(&error))
}

/// Shows `columns` until Ctrl-C.
pub(super) fn run(columns: Columns, flags: &Flags, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    let listen = address(&flags.http)?;
    let token = match &*flags.token_file {
        "" => None,
        path => Some(Access::read_token(Path::new(path)).map_err(|error| in_full(&error))?),
    };
    if !listen.is_local() && token.is_none() {
        let why = "other machines can reach it, and a profile may hold secrets";
        return Err(format!(
            "-http={}: {why}: give -token_file=FILE (then: http://any:TOKEN@HOST/)",
            flags.http
        ));
    }
    let loaded = Loaded { name: name_of(&flags.arguments), columns };
    let draw = Box::new(|graph: &[u8]| drawing::draw_plain(graph.to_vec()));
    let site = Site::new(vec![loaded], flags.settings.clone(), Box::new(binaries::LocalFiles), draw);
    let stop = attach::stop_on_signals().map_err(|error| error.to_string())?;
    let door = Door::new(listen, Access { token, ..Access::default() });
    serve::pages_of(site, door, &stop, |address| {
        let url = format!("http://{address}");
        say(&format!("Serving web UI on {url}"));
        if !flags.no_browser {
            open_browser(&url, say);
        }
    })
    .map_err(|error| in_full(&error))
}

/// An error and what is behind it.
fn in_full(error: &serve::ServeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What the pages call the profile.
fn name_of(sources: &[String]) -> String {
    match sources {
        [] => "profile".into(),
        [one] => crate::go_text::base_name(one).into(),
        [first, rest @ ..] => format!("{} and {} more", crate::go_text::base_name(first), rest.len()),
    }
}

/// Opens the first browser that starts.
fn open_browser(url: &str, say: &mut dyn FnMut(&str)) {
    for program in viewer::browsers() {
        let mut words = program.split(' ');
        let Some(name) = words.next() else { continue };
        let mut browser = Process::new(name);
        let quiet = std::process::Stdio::null;
        browser.args(words).arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet());
        if let Ok(mut browser) = browser.spawn() {
            // Nobody waits for it; without this it would stay as a zombie.
            std::thread::spawn(move || browser.wait());
            return;
        }
    }
    say(&format!("No browser could be started: open {url} in one"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_host_or_port_is_this_machine_and_any_port() {
        for (text, address) in [
            (":8000", "127.0.0.1:8000"),
            ("localhost:", "127.0.0.1:0"),
            (":", "127.0.0.1:0"),
            ("[::1]:7", "[::1]:7"),
            ("0.0.0.0:80", "0.0.0.0:80"),
        ] {
            assert_eq!(super::address(text).unwrap().to_string(), address);
        }
        let error = super::address("localhost").unwrap_err();
        assert_eq!(error, "could not split http address: address localhost: missing port in address");
        assert!(super::address("there:80x").is_err());
    }

    #[test]
    fn a_profile_is_called_by_its_file() {
        assert_eq!(name_of(&["/tmp/a.pb.gz".into()]), "a.pb.gz");
        assert_eq!(name_of(&["a".into(), "b".into(), "c".into()]), "a and 2 more");
    }
}
