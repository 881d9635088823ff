//! Debug files from a debuginfod server, by build ID: `GET <url>/buildid/<hex>/debuginfo`. Files
//! are cached in the same place as by elfutils' client (debuginfod(8),
//! debuginfod_find_debuginfo(3)).
//!
//! Used only on request: profiling must not contact the network by itself. Not here: reading the
//! files.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::debug_files::hex;

/// How long a server's "not found" is remembered (elfutils' `cache_miss_s`).
const MISS_LIFETIME: Duration = Duration::from_secs(600);

/// How often it is checked whether rprof is stopped.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// Servers, and the cache for downloaded files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debuginfod {
    /// Tried in order, e.g. `https://debuginfod.debian.net`.
    pub urls: Vec<String>,
    /// Cache directory; a file is at `<cache>/<build-id>/debuginfo`.
    pub cache: PathBuf,
    /// Limit for one file, from connecting to its last byte.
    pub timeout: Duration,
    /// Larger files are not downloaded.
    pub max_bytes: u64,
}

impl Debuginfod {
    /// Reads the settings of elfutils' client: `DEBUGINFOD_URLS`, `DEBUGINFOD_CACHE_PATH` (else
    /// `$XDG_CACHE_HOME/debuginfod_client`, else below `~/.cache`), `DEBUGINFOD_TIMEOUT` (seconds).
    /// `None` if no URL is set or no cache directory is known.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Option<Debuginfod> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let urls: Vec<String> = set("DEBUGINFOD_URLS")?
            .split_whitespace()
            .filter(|url| is_http(url))
            .map(str::to_owned)
            .collect();
        if urls.is_empty() {
            return None;
        }
        let cache = set("DEBUGINFOD_CACHE_PATH").map(PathBuf::from).or_else(|| {
            let base = set("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))?;
            Some(base.join("debuginfod_client"))
        })?;
        let seconds = set("DEBUGINFOD_TIMEOUT").and_then(|text| text.parse().ok()).unwrap_or(90);
        Some(Debuginfod { urls, cache, timeout: Duration::from_secs(seconds), max_bytes: 2 << 30 })
    }

    /// The debug file of a build ID: from the cache, or downloaded into it. `Ok(None)`: no server
    /// has it. An error names the server that failed and the reason; the remaining servers have
    /// been tried too.
    fn debug_file(&self, build_id: &[u8]) -> Result<Option<File>, String> {
        let id = hex(build_id);
        let directory = self.cache.join(&id);
        let cached = directory.join("debuginfo");
        if let Ok(metadata) = fs::metadata(&cached) {
            if metadata.len() > 0 {
                return File::open(&cached)
                    .map(Some)
                    .map_err(|error| format!("{}: {error}", cached.display()));
            }
            let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age < MISS_LIFETIME) {
                return Ok(None);
            }
        }
        let mut failure = None;
        for url in &self.urls {
            match self.fetch(url, &id, &directory, &cached) {
                Ok(Some(file)) => return Ok(Some(file)),
                Ok(None) => {}
                Err(reason) => failure = failure.or(Some(format!("{url}: {reason}"))),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => {
                // An empty file remembers the miss; without it the servers are only asked again.
                let _ = fs::create_dir_all(&directory).and_then(|()| File::create(&cached));
                Ok(None)
            }
        }
    }

    /// As [`Debuginfod::debug_file`], but an error as soon as `is_stopped`: a server may not
    /// answer.
    pub fn debug_file_unless(
        &self,
        build_id: &[u8],
        is_stopped: impl Fn() -> bool,
    ) -> Result<Option<File>, String> {
        let (sender, received) = mpsc::channel();
        let (client, id) = (self.clone(), build_id.to_vec());
        // It ends with the process if nobody waits for it any more.
        thread::spawn(move || drop(sender.send(client.debug_file(&id))));
        loop {
            match received.recv_timeout(CHECK_EVERY) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Timeout) if !is_stopped() => {}
                Err(_) => return Err("rprof was stopped before the server had answered".to_owned()),
            }
        }
    }

    fn fetch(&self, url: &str, id: &str, directory: &Path, cached: &Path) -> Result<Option<File>, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .user_agent(concat!("rprof/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let address = format!("{}/buildid/{id}/debuginfo", url.trim_end_matches('/'));
        let response = agent.get(&address).call().map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(format!("HTTP status {status}")),
        }
        let body = response.into_body().into_with_config().limit(self.max_bytes.saturating_add(1)).reader();
        self.keep(body, directory, cached).map(Some).map_err(|error| error.to_string())
    }

    /// Writes to a temporary name first, so that other programs never see a partial file.
    fn keep(&self, body: impl Read, directory: &Path, cached: &Path) -> io::Result<File> {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        let written = io::copy(&mut body.take(self.max_bytes.saturating_add(1)), &mut file)?;
        if written > self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than the limit"));
        }
        if written == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the response is empty"));
        }
        file.flush()?;
        file.persist(cached).map_err(|error| error.error)?;
        File::open(cached)
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
    };

    use super::*;

    /// Sends the given responses (status line, body) in order, then stops. The channel receives the
    /// requested paths.
    fn server(answers: Vec<(&'static str, Vec<u8>)>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, paths) = mpsc::channel();
        thread::spawn(move || {
            for (status, body) in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
                let mut lines = BufReader::new(&stream).lines();
                let request = lines.next().and_then(Result::ok).unwrap_or_default();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                let _ = sender.send(request);
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        (url, paths)
    }

    fn client(url: String, cache: &Path) -> Debuginfod {
        Debuginfod { urls: vec![url], cache: cache.into(), timeout: Duration::from_secs(5), max_bytes: 1000 }
    }

    #[test]
    fn a_file_is_downloaded_once_and_then_read_from_the_cache() {
        let cache = tempfile::tempdir().expect("temporary directory");
        let (url, paths) = server(vec![("200 OK", b"content".to_vec())]);
        let client = client(url, cache.path());
        for _ in 0..2 {
            let file = client.debug_file(&[0xab, 0xcd]).expect("an answer").expect("a file");
            assert_eq!(io::read_to_string(file).expect("text"), "content");
        }
        assert_eq!(paths.iter().collect::<Vec<_>>(), ["GET /buildid/abcd/debuginfo HTTP/1.1"]);
        assert!(cache.path().join("abcd/debuginfo").is_file());
    }

    #[test]
    fn a_missing_file_is_not_requested_again_soon() {
        let cache = tempfile::tempdir().expect("temporary directory");
        let (url, paths) = server(vec![("404 Not Found", Vec::new())]);
        let client = client(url, cache.path());
        assert!(client.debug_file(&[1, 2]).expect("an answer").is_none());
        assert!(client.debug_file(&[1, 2]).expect("an answer").is_none());
        assert_eq!(paths.iter().count(), 1);
    }

    #[test]
    fn a_failing_server_or_a_too_large_file_is_an_error_and_leaves_no_file() {
        let cache = tempfile::tempdir().expect("temporary directory");
        let (url, _paths) = server(vec![("500 Oops", Vec::new()), ("200 OK", vec![0; 1001])]);
        let client = client(url, cache.path());
        assert!(client.debug_file(&[1, 2]).expect_err("an error").contains("500"));
        client.debug_file(&[1, 2]).expect_err("an error");
        let left: Vec<_> = fs::read_dir(cache.path().join("0102")).expect("directory").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn the_environment_is_read_as_elfutils_reads_it() {
        let environment = |name: &str| match name {
            "DEBUGINFOD_URLS" => Some("https://a.example/ ftp://no http://b.example".to_owned()),
            "HOME" => Some("/home/me".to_owned()),
            _ => None,
        };
        let client = Debuginfod::from_environment(environment).expect("configured");
        assert_eq!(client.urls, ["https://a.example/", "http://b.example"]);
        assert_eq!(client.cache, Path::new("/home/me/.cache/debuginfod_client"));
        assert_eq!(Debuginfod::from_environment(|_| None), None);
    }
}
