//! Debian's redis, a server that the tests did not write.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Target, installed, open_folder, wait_for_cpu_time};

/// A helper process, ended with the test.
pub struct Helper(Child);

impl Helper {
    /// Starts it without output.
    pub fn start(command: &mut Command) -> Helper {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Helper(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a socket of its own.
pub struct Redis {
    /// The server.
    pub target: Target,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts a server; `None`: it is not installed.
    pub fn start() -> Option<Redis> {
        let folder = open_folder();
        let socket = folder.path().join("socket");
        let mut command = Command::new(installed("redis-server")?);
        command.args(["--port", "0", "--unixsocket", &socket.to_string_lossy()]);
        command.args(["--save", "", "--appendonly", "no"]).current_dir(folder.path());
        let target = Target::spawn_server(&mut command, || socket.exists());
        Some(Redis { target, folder })
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Puts it under load, until the result is dropped; `None`: its benchmark is not installed.
    pub fn load(&self) -> Option<Helper> {
        let mut command = Command::new(installed("redis-benchmark")?);
        command.args(["-s", &self.socket().to_string_lossy(), "-n", "100000000", "-c", "20"]);
        let load = Helper::start(command.args(["-t", "set,get,lpush,lrange_100", "-q"]));
        // The load has begun.
        wait_for_cpu_time(self.target.pid(), Duration::from_millis(100));
        Some(load)
    }
}
