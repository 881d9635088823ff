//! `rprof pprof -http`: the pages of a profile, requested over a socket and by a browser.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rprof::profile::{Builder, LabelValue, LineSpec, encode_gzip};

use crate::harness::{Skip, installed, skip};

const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=\"window.hostile=1\">";

/// `main` calls `work` (with `tight` inlined), `idle`, and a function with a hostile name.
fn write_profile(path: &Path, idle: i64) {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    let source = path.parent().expect("a folder").join("a.c").display().to_string();
    let [main, work, idling, tight, hostile] =
        ["main", "work", "idle", "tight", HOSTILE].map(|name| builder.function(name, name, &source, 1));
    let line = |function, line| LineSpec { function, line, column: 0 };
    let main = builder.location(None, 0x10, &[line(main, 2)]);
    let tight = builder.location(None, 0x20, &[line(tight, 3), line(work, 2)]);
    let work = builder.location(None, 0x30, &[line(work, 3)]);
    let idling = builder.location(None, 0x40, &[line(idling, 3)]);
    let hostile = builder.location(None, 0x50, &[line(hostile, 1)]);
    for (stack, value, thread) in [
        (&[tight, main][..], 60, "T-1"),
        (&[work, main], 30, "T-1"),
        (&[idling, main], idle, "T-2"),
        (&[hostile, main], 2, HOSTILE),
    ] {
        builder.sample(stack, &[value, value * 10_000_000], &[("thread", LabelValue::Text(thread))]);
    }
    fs::write(path, encode_gzip(&builder.finish())).expect("written");
}

/// A folder with two profiles and their source file.
fn profiles() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.c"), "int a;\nmain <b>bold</b>\nwork\n").expect("written");
    let [one, two] = ["one.pb.gz", "two.pb.gz"].map(|name| folder.path().join(name));
    write_profile(&one, 8);
    write_profile(&two, 400);
    (folder, one, two)
}

/// A running `rprof pprof -http`; dropping it ends the server.
struct Pages {
    child: Child,
    address: String,
}

impl Pages {
    fn of(home: &Path, arguments: &[&Path]) -> Pages {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
        command.args(["pprof", "-http=127.0.0.1:0", "-no_browser"]).args(arguments);
        command.env("HOME", home).env("XDG_CONFIG_HOME", home.join("config")).stderr(Stdio::piped());
        let mut child = command.spawn().expect("rprof starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let first = lines.find(|line| line.starts_with("Serving web UI on")).expect("the address");
        std::thread::spawn(move || lines.for_each(drop));
        let address = first.trim_start_matches("Serving web UI on http://").to_owned();
        Pages { child, address }
    }

    fn ask(&self, method: &str, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
        let host =
            if header.starts_with("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{host}{header}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("a response");
        String::from_utf8_lossy(&response).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, "Accept: */*")
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pages_have_the_paths_of_the_reference_and_forbid_foreign_scripts() {
    let (folder, one, _) = profiles();
    let pages = Pages::of(folder.path(), &[&one]);
    assert!(pages.get("/").contains("307") && pages.get("/").contains("location: /ui/"));
    assert!(pages.get("/ui/").contains("location: /ui/flamegraph"));
    let page = pages.get("/ui/flamegraph");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("assets/app.js"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page}");
    assert!(!page.contains("one.pb.gz"), "pages are the same for all profiles");
    assert!(pages.get("/ui/assets/app.js").contains("text/javascript"));
    assert!(pages.get("/ui/assets/../../etc/passwd").starts_with("HTTP/1.1 404"));
    let top = pages.get("/ui/api/report?report=top&f=tight");
    assert!(top.contains("\"name\": \"tight\"") && !top.contains("\"name\": \"idle\""), "{top}");
    assert!(pages.get("/ui/api/report?report=top&f=(").starts_with("HTTP/1.1 400"));
    assert!(pages.get("/ui/download").contains("filename=\"profile.pb.gz\""));
}

#[test]
fn other_host_names_and_requests_of_other_sites_are_refused() {
    let (folder, one, _) = profiles();
    let pages = Pages::of(folder.path(), &[&one]);
    assert!(pages.ask("GET", "/ui/api/flame", "Host: evil.example").starts_with("HTTP/1.1 403"));
    assert!(
        pages
            .ask("POST", "/ui/saveconfig?config=x", "Origin: http://evil.example")
            .starts_with("HTTP/1.1 403")
    );
    assert!(pages.ask("GET", "/ui/saveconfig?config=x", "Accept: */*").starts_with("HTTP/1.1 405"));
    let open = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["pprof", "-http=0.0.0.0:0", "-no_browser"])
        .arg(&one)
        .output()
        .expect("rprof runs");
    assert_eq!(open.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&open.stderr).contains("-token_file"), "{open:?}");
}

#[test]
fn a_folder_has_its_profiles_and_two_are_compared() {
    let (folder, ..) = profiles();
    let pages = Pages::of(folder.path(), &[folder.path()]);
    let info = pages.get("/ui/api/info");
    assert!(info.contains("\"name\":\"one.pb.gz\",\"number\":0"), "{info}");
    assert!(info.contains("\"name\":\"two.pb.gz\",\"number\":1"), "{info}");
    let diff = pages.get("/ui/api/diff?vs=0&in=1");
    assert!(diff.contains("\"name\": \"idle\"") && diff.contains("significant"), "{diff}");
    let flame = pages.get("/ui/api/flame?vs=0&in=1");
    assert!(flame.contains("\"is_difference\":true") && flame.contains("\"net\""), "{flame}");
}

/// The folder of the browser tests, if `scripts/test` has installed their dependencies.
pub(crate) fn browser_tests() -> Result<PathBuf, Skip> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    for program in ["chromium", "node"] {
        installed(program).ok_or(Skip::NotInstalled(program))?;
    }
    let is_installed =
        ["playwright-core", "axe-core"].iter().all(|name| folder.join("node_modules").join(name).is_dir());
    if is_installed { Ok(folder) } else { Err(Skip::NotInstalled("playwright-core (npm)")) }
}

#[test]
fn a_browser_shows_every_view_and_runs_no_script_in_a_name() {
    let folder = match browser_tests() {
        Ok(folder) => folder,
        Err(why) => return skip(why),
    };
    let (home, one, two) = profiles();
    let pages = Pages::of(home.path(), &[&one, &two]);
    let mut command = Command::new("node");
    command.arg(folder.join("views.mjs")).arg(format!("http://{}", pages.address));
    command.args(std::env::var_os("RPROF_SCREENSHOTS")).current_dir(&folder);
    let output = command.output().expect("node runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
}
