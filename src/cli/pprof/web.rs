//! `-http`: serves the pages of a profile until a signal ends rprof.
//!
//! `web` makes the pages, `serve` controls access to them.

use std::{
    path::{Path, PathBuf},
    process::Command as Process,
};

use super::{Flags, binaries, collection, drawing, viewer};
use crate::{
    cli::{signals, spool},
    report::pprof::Settings,
    serve::{self, Access, Address, Door},
    web::{Offered, Site, Tools},
};

/// Parses the address to listen on: `[host]:[port]`. Default host: localhost, default port: any.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let refused = |why: &str| Err(format!("could not split http address: address {text}: {why}"));
    let Some((host, port)) = text.rsplit_once(':') else { return refused("missing port in address") };
    let port = if port.is_empty() { "0" } else { port };
    if port.parse::<u16>().is_err() {
        return Err(format!("-http={text}: the port must be a number from 0 to 65535"));
    }
    format!("{host}:{port}").parse().or_else(|error: String| refused(&error))
}

/// Serves the merged profile until Ctrl-C, and each of several sources separately.
pub(super) fn run(flags: &Flags, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    let door = door(flags)?;
    let stop = signals::stop_on_signals().map_err(|error| error.to_string())?;
    let listening = |address: &Address, say: &mut dyn FnMut(&str)| {
        let url = format!("http://{address}");
        say(&format!("Serving web UI on {url}"));
        if !flags.no_browser {
            open_browser(&url, say);
        }
    };
    if let [source] = &flags.arguments[..]
        && let Some((folder, _)) = spool::parts(source)
    {
        let tools = tools_for_oneself(flags.settings.clone());
        let served = serve::pages_of_spool(Path::new(folder), tools, door, &stop, |at| listening(at, say));
        return served.map_err(|error| in_full(&error));
    }
    let folder = tempfile::tempdir()
        .map_err(|error| format!("cannot create a directory for unpacked profiles: {error}"))?;
    let offered = offered(flags, folder.path(), say)?;
    let site = Site::new(offered, tools_for_oneself(flags.settings.clone()));
    serve::pages_of(site, door, &stop, |address| listening(address, say)).map_err(|error| in_full(&error))
}

/// The tools for pages that only the user who started rprof sees.
fn tools_for_oneself(settings: Settings) -> Tools {
    Tools {
        settings,
        configs: configs_file(),
        objects: Box::new(binaries::LocalFiles),
        draw: Box::new(drawing::draw_plain),
    }
}

/// The tools for pages that other users see (`rprof serve`). A process chooses the names and paths
/// in its profile, and clients choose the requests; neither may make rprof access files or start
/// programs.
pub(in crate::cli) fn tools_for_others(source_folders: &[PathBuf]) -> Result<Tools, String> {
    let mut roots = Vec::new();
    for folder in source_folders {
        let resolved = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        roots.push(resolved);
    }
    let names: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Ok(Tools {
        settings: Settings { source_path: names.join(":"), source_roots: Some(roots), ..Settings::default() },
        configs: None,
        objects: Box::new(binaries::SameFiles),
        draw: Box::new(drawing::draw_inside),
    })
}

/// The address to listen on and the token.
fn door(flags: &Flags) -> Result<Door, String> {
    let listen = address(&flags.http)?;
    let token = match &*flags.token_file {
        "" => None,
        path => Some(Access::read_token(Path::new(path)).map_err(|error| in_full(&error))?),
    };
    if !listen.is_local() && token.is_none() {
        let why = "other machines can reach it, and a profile may hold secrets";
        return Err(format!(
            "-http={}: {why}: use -token_file=FILE (then open http://any:TOKEN@HOST/)",
            flags.http
        ));
    }
    Ok(Door::new(listen, Access { token, ..Access::default() }))
}

/// The profiles of the pages; the first one is shown first.
fn offered(flags: &Flags, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Vec<Offered>, String> {
    let mut found = Vec::new();
    for (at, source) in flags.arguments.iter().enumerate() {
        if collection::is_collection(source) {
            let own = folder.join(at.to_string());
            std::fs::create_dir(&own).map_err(|error| error.to_string())?;
            let profiles = collection::profiles_of(source, &own)?;
            found.extend(profiles.into_iter().map(|(name, path)| (name, path.display().to_string())));
        } else {
            found.push((crate::text::path::base_name(source).into(), source.clone()));
        }
    }
    let is_collection = found.len() != flags.arguments.len()
        || flags.arguments.iter().any(|own| collection::is_collection(own));
    if let Some(spool) = flags.arguments.iter().find(|source| spool::parts(source).is_some()) {
        return Err(format!("{spool} is a spool: give it alone, and compare windows on its pages"));
    }
    let mut offered = Vec::new();
    if !is_collection {
        offered.push(Offered::loaded(&name_of(&flags.arguments), super::sources::fetch(flags, say)?));
        if found.len() == 1 {
            return Ok(offered);
        }
    }
    for (name, source) in found {
        let own = flags.with_source(&source);
        offered.push(Offered::unread(&name, Box::new(move || super::sources::fetch(&own, &mut |_| ()))));
    }
    Ok(offered)
}

/// The file in which `go tool pprof` saves settings.
fn configs_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(folder.join("pprof/settings.json"))
}

/// An error and its cause.
fn in_full(error: &serve::ServeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The profile's name in the pages.
fn name_of(sources: &[String]) -> String {
    match sources {
        [] => "profile".into(),
        [one] => crate::text::path::base_name(one).into(),
        [first, rest @ ..] => format!("{} and {} more", crate::text::path::base_name(first), rest.len()),
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
            // Reaps the process, which would otherwise stay a zombie.
            std::thread::spawn(move || browser.wait());
            return;
        }
    }
    say(&format!("Cannot start a browser: open {url} in one"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_address_is_localhost_and_any_port() {
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
    fn a_profile_is_named_after_its_file() {
        assert_eq!(name_of(&["/tmp/a.pb.gz".into()]), "a.pb.gz");
        assert_eq!(name_of(&["a".into(), "b".into(), "c".into()]), "a and 2 more");
    }
}
