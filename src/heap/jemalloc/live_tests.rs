//! Live: Debian's redis, which uses jemalloc, against its own statistics.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;
use crate::budget::Budget;

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What redis prints for a command; `None`: it is not installed, or not ready yet.
fn ask(socket: &Path, command: &[&str]) -> Option<String> {
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Regions in use by size, as `malloc_stats_print` counts them: the lines `SIZE INDEX …` below
/// `bins:` and `large:`, of which the last but one column of each begins with the current number.
fn stated(text: &str) -> BTreeMap<u64, u64> {
    // The first tables are those of all arenas together, or of the only one.
    let (_, tables) = text.split_once("\nbins:").unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in tables.lines() {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[size, class, allocated, ..] = &numbers[..] else { continue };
        if allocated > 0 && class < 232 && size > 0 {
            found.entry(size).or_insert(allocated / size);
        }
        if line.starts_with("extents:") {
            break;
        }
    }
    found
}

#[derive(Default)]
struct InUse(BTreeMap<u64, u64>);

impl Sink for InUse {
    fn chunk(&mut self, chunk: &Chunk, _: &[u8]) {
        if chunk.state.is_in_use() {
            *self.0.entry(chunk.size / chunk.count).or_default() += chunk.count;
        }
    }
}

#[test]
fn the_size_classes_of_redis_are_those_that_it_states() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let mut server = Command::new("redis-server");
    server.args(["--port", "0", "--save", "", "--enable-debug-command", "yes", "--unixsocket"]);
    server.arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(server) = server.current_dir(folder.path()).spawn() else { return }; // Not installed.
    let server = Server(server);
    let is_ready = || ask(&socket, &["PING"]).is_some_and(|text| text.contains("PONG"));
    assert!((0..200).any(|_| is_ready() || {
        std::thread::sleep(Duration::from_millis(50));
        false
    }));
    ask(&socket, &["DEBUG", "POPULATE", "20000", "key", "100"]).expect("populated");
    ask(&socket, &["DEBUG", "POPULATE", "20", "large", "100000"]).expect("populated");
    let text = ask(&socket, &["MEMORY", "MALLOC-STATS"]).expect("statistics");
    if !text.contains("Version: \"5.3.0") {
        return; // Another release, or another allocator.
    }
    let target = Target::open(server.0.id(), &Budget::session()).expect("readable");
    let heap = Jemalloc.detect(&target).expect("jemalloc");
    let mut found = InUse::default();
    let coverage = heap.census(&target, &mut found);
    let truth = stated(&text);
    let bytes = |all: &BTreeMap<u64, u64>| all.iter().map(|(size, count)| size * count).sum::<u64>() as f64;
    let (found, stated) = (&found.0, &truth);
    assert!(stated.len() > 20 && bytes(stated) > 3e6, "{text}");
    assert!((bytes(found) / bytes(stated) - 1.0).abs() < 0.01, "{found:?}\n{stated:?}\n{coverage:?}");
    // The connection that requested the statistics frees some small regions afterwards.
    for (size, count) in stated.iter().filter(|(_, count)| **count > 5000) {
        let own = found.get(size).copied().unwrap_or(0) as f64;
        assert!((own / *count as f64 - 1.0).abs() < 0.01, "{size}: {own} of {count}");
    }
}
