//! Programs that nobody wrote for these tests: as distributions ship them, under load.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use rprof::process::{identity, select::descendants};

use crate::{
    dump::{self, assert_dumps},
    harness::{
        Helper, Redis, Rprof, Skip, Stacks, Target, alone, installed, is_root, open_folder, skip, wait_until,
    },
};

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("bound").port()
}

#[track_caller]
fn assert_whole(profile: &Stacks) {
    let whole = profile.whole_as_stated();
    assert!(whole >= 99.0, "{whole} % whole\n{}", profile.summary());
    assert_eq!(profile.comment("lost"), "0 samples");
}

#[test]
fn redis_under_load_is_whole() {
    let _alone = alone();
    let Some(redis) = Redis::start() else { return skip(Skip::NotInstalled("redis")) };
    let Some(_load) = redis.load() else { return skip(Skip::NotInstalled("redis")) };
    let mut target = redis.target;
    let profile = Rprof::attach(&target).profile();
    profile.assert_at_least(100);
    assert_whole(&profile);
    // Debian's redis is stripped of local names; the root is in .symtab only if that is there.
    if profile.share_of("main") > 0.0 {
        assert!(
            profile.share(|stack| stack.has_in_order(&["main", "aeMain"])) > 80.0,
            "{}",
            profile.summary()
        );
    }
    target.assert_unhurt();
}

#[test]
fn python_at_work_is_whole() {
    let _alone = alone();
    let Some(python) = installed("python3") else { return skip(Skip::NotInstalled("python3")) };
    let script = "
import signal, json, re
signal.alarm(60)
print('ready', flush=True)
text = json.dumps([{'key %d' % i: [i, str(i)] for i in range(50)} for _ in range(20)])
while True:
    json.loads(text); sorted(text); re.findall('[0-9]+', text); sum(i * i for i in range(10000))
";
    let mut target = Target::spawn(Command::new(python).args(["-c", script]));
    let profile = Rprof::attach(&target).profile();
    profile.assert_at_least(300);
    assert_whole(&profile);
    target.assert_unhurt();
}

/// Asks a web server for `/`, over one connection each time.
fn get(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = Vec::new();
    stream.write_all(b"GET / HTTP/1.0\r\nHost: here\r\n\r\n").is_ok()
        && stream.read_to_end(&mut answer).is_ok()
        && answer.starts_with(b"HTTP/1.1 ")
}

#[test]
fn nginx_under_load_is_whole() {
    let _alone = alone();
    let Some(nginx) = installed("nginx") else { return skip(Skip::NotInstalled("nginx")) };
    let folder = open_folder();
    let port = free_port();
    let page = folder.path().join("index.html");
    std::fs::write(&page, "hello ".repeat(2000)).expect("own folder");
    crate::harness::set_mode(&page, 0o644);
    let user = if is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; master_process off; {user} pid {0}/pid; error_log {0}/errors; events {{}}
         http {{ access_log off; gzip on; gzip_comp_level 6; gzip_types *; gzip_http_version 1.0;
         client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d;
         scgi_temp_path {0}/e; server {{ listen 127.0.0.1:{port}; root {0}; }} }}",
        folder.path().display()
    );
    let config_path = folder.path().join("nginx.conf");
    std::fs::write(&config_path, config).expect("own folder");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&config_path).stderr(Stdio::null());
    let mut target = Target::spawn_server(&mut command, || get(port));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let profile = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                get(port);
            }
        });
        let outcome = Rprof::attach(&target).run();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome.profile()
    });
    profile.assert_at_least(300);
    assert_whole(&profile);
    target.assert_unhurt();
    assert_dumps(&mut target, 100, &["ngx_process_events_and_timers"]);
}

#[test]
fn postgres_at_work_is_whole() {
    let _alone = alone();
    let folders = ["/usr/local/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/bin"];
    let Some(bin) = folders.into_iter().find(|folder| {
        ["postgres", "initdb", "psql"].iter().all(|program| Path::new(folder).join(program).exists())
    }) else {
        return skip(Skip::NotInstalled("postgres"));
    };
    // postgres refuses to run as root.
    let user = super::rights::ordinary_user();
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let program = |name: &str| user.command(&Path::new(bin).join(name));
    let made = program("initdb").args(["-D", &path("data"), "-U", "tester", "--no-sync"]).output();
    let made = made.expect("initdb runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = program("postgres");
    server.args(["-D", &path("data"), "-k", &path(""), "-c", "listen_addresses=", "-F"]);
    server.stderr(Stdio::null());
    let socket = folder.path().join(".s.PGSQL.5432");
    let mut target = Target::spawn_server(&mut server, || socket.exists());
    let query = "select count(*), sum(sqrt(a)) from generate_series(1, 300000000) a, (select 1) b";
    let _client =
        Helper::start(program("psql").args(["-h", &path(""), "-U", "tester", "postgres", "-c", query]));
    // The query is past its planning.
    let cpu_time = |pid: &u32| identity::cpu_time_ns(*pid).unwrap_or(0);
    let is_busy = || descendants(target.pid()).iter().any(|pid| cpu_time(pid) > 500_000_000);
    assert!(wait_until(30, is_busy), "no backend works");
    let profile = Rprof::attach(&target).args(&["--children"]).profile();
    profile.assert_at_least(300);
    assert_whole(&profile);
    target.assert_unhurt();
    let (threads, words) = dump::threads(dump::dump(target.pid()).args(&["--children"]));
    assert!(threads.len() >= 6 && threads.iter().all(dump::Thread::is_whole), "{words}: {threads:?}");
    assert!(threads.iter().any(|thread| thread.has("WaitEventSetWait")), "{threads:?}");
}
