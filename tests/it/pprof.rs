//! `rprof pprof` where it meets the world: servers, binaries in other places, machines without
//! Graphviz.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pprof");

/// `rprof pprof`, saving what it fetches to a folder of its own.
fn rprof(arguments: &[&str], variables: &[(&str, &str)]) -> (Output, tempfile::TempDir) {
    let saved = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
    command.arg("pprof").args(arguments).stdin(Stdio::null());
    command.env("PPROF_TMPDIR", saved.path()).env("HOME", saved.path());
    command.envs(variables.iter().copied());
    (command.output().unwrap(), saved)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Answers so many requests on the loopback interface; gives the port.
fn server(requests: usize, answer: impl Fn(&str, &str) -> Vec<u8> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(requests).flatten() {
            serve(stream, &answer);
        }
    });
    port
}

fn serve(stream: TcpStream, answer: &impl Fn(&str, &str) -> Vec<u8>) {
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = first.split(' ').nth(1).unwrap_or_default();
    let reply = answer(path, &text(&body));
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", reply.len());
    let mut stream = &stream;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&reply)).unwrap();
}

#[test]
fn addresses_of_a_profile_from_a_server_are_named_by_that_server_and_kept() {
    let port = server(2, |path, body| match path {
        "/x/profilez?seconds=1" => std::fs::read(format!("{FIXTURES}/objects/tiny.cpu")).unwrap(),
        "/x/symbolz" => {
            body.split('+').map(|address| format!("{address}\tnamed\n")).collect::<String>().into()
        }
        other => panic!("asked for {other}"),
    });
    let address = format!("http://127.0.0.1:{port}/x/profilez");
    let (output, saved) = rprof(&["-top", "-seconds=1", "-symbolize=remote", &address], &[]);
    let (report, messages) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{messages}");
    assert!(report.contains("1.69s   100%   100%      1.69s   100%  named"), "{report}");
    assert!(
        messages.contains(&format!("Fetching profile over HTTP from {address}?seconds=1\n")),
        "{messages}"
    );
    assert!(messages.contains("Please wait... (1s)\n"), "{messages}");
    let file = saved.path().join("pprof.tiny.samples.cpu.001.pb.gz");
    assert!(messages.contains(&format!("Saved profile in {}\n", file.display())), "{messages}");
    let again = rprof(&["-top", &file.display().to_string()], &[]).0;
    assert_eq!(text(&again.stdout), report);
}

#[test]
fn binaries_are_found_in_the_folders_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(format!("{FIXTURES}/objects/tiny"), folder.path().join("tiny")).unwrap();
    let search = format!("/nowhere:{}", folder.path().display());
    let profile = format!("{FIXTURES}/objects/tiny.cpu");
    let (output, _saved) = rprof(&["-top", "-lines", &profile], &[("PPROF_BINARY_PATH", &search)]);
    assert!(text(&output.stdout).contains("burn /src/tiny.c:5"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr), "");
    let (output, _saved) = rprof(&["-top", &profile], &[("PPROF_BINARY_PATH", "/nowhere")]);
    let open = "Local symbolization failed for tiny: open /usr/bin/tiny: no such file or directory";
    assert!(text(&output.stderr).starts_with(open), "{}", text(&output.stderr));
}

#[test]
fn without_graphviz_graphs_are_drawn_all_the_same() {
    let nothing = tempfile::tempdir().unwrap();
    let path = [("PATH", nothing.path().to_str().unwrap())];
    let profile = format!("{FIXTURES}/inlined.pb.gz");
    let (output, _saved) = rprof(&["-svg", &profile], &path);
    let svg = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(svg.contains("<svg width=\"100%\"") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("<g id=\"viewport\"") && svg.matches("class=\"node\"").count() > 10, "{svg}");
    let (output, _saved) = rprof(&["-png", &profile], &path);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let messages = text(&output.stderr);
    assert!(messages.contains("-svg and -ps need none\nfailed to execute dot."), "{messages}");
}

#[test]
fn where_no_browser_is_there_the_last_that_was_tried_is_named_and_no_file_stays() {
    let nothing = tempfile::tempdir().unwrap();
    let profile = format!("{FIXTURES}/inlined.pb.gz");
    let folder = nothing.path().to_str().unwrap();
    let variables = [("PATH", folder), ("TMPDIR", folder), ("BROWSER", ""), ("DISPLAY", "")];
    let (output, _saved) = rprof(&["-web", &profile], &variables);
    assert_eq!(output.status.code(), Some(2));
    let error = "exec: \"sensible-browser\": executable file not found in $PATH\n";
    assert!(text(&output.stderr).ends_with(error), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(Path::new(folder)).unwrap().count(), 0);
}

#[test]
fn assembly_and_its_source_are_to_be_had_as_data() {
    let (program, profile) = (format!("{FIXTURES}/objects/tiny"), format!("{FIXTURES}/objects/tiny.cpu"));
    let (output, _) = rprof(&["-disasm=.", "-format=json", &program, &profile], &[]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let functions = report["functions"].as_array().expect("functions");
    assert!(!functions.is_empty(), "{report}");
    for function in functions {
        let instructions = function["instructions"].as_array().expect("instructions");
        let sum: i64 = instructions.iter().map(|row| row["flat"].as_i64().expect("a number")).sum();
        assert_eq!(Some(sum), function["flat"].as_i64(), "{function}");
        assert!(instructions.iter().all(|row| row["text"].is_string() && row["address"].is_string()));
    }
    let (output, _) = rprof(&["-weblist=.", "-format=csv", &program, &profile], &[]);
    assert!(output.status.success() && !output.stdout.is_empty(), "{}", text(&output.stderr));
}
