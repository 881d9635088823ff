//! Any bytes as the response of a debuginfod server: status line, headers and body.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    path::Path,
    thread,
    time::Duration,
};

use rprof::symbolize::Debuginfod;

const MAX_BYTES: u64 = 1 << 20;

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return };
    let port = listener.local_addr().expect("an address").port();
    let response = bytes.to_vec();
    let server = thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&response);
        let _ = stream.shutdown(Shutdown::Write);
    });
    let cache = tempfile::tempdir().expect("a temporary folder");
    let client = Debuginfod {
        urls: vec![format!("http://127.0.0.1:{port}")],
        cache: cache.path().to_owned(),
        timeout: Duration::from_secs(2),
        max_bytes: MAX_BYTES,
    };
    if let Ok(Some(file)) = client.debug_file_unless(&[0xab; 20], || false) {
        assert!(file.metadata().expect("metadata").len() <= MAX_BYTES);
    }
    assert!(files_in(cache.path()) <= 1, "nothing but the cached file is left");
    server.join().expect("the server does not panic");
}

fn files_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}
