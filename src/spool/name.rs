//! The names of the files of a spool, which say what is in them.

use jiff::{Timestamp, civil, tz::TimeZone};

use super::EXTENSION;

/// Milliseconds since 1970-01-01 UTC.
pub type Time = i64;

/// The most bytes of a service, kind or mark in a file name.
const MAX_WORD: usize = 120;

/// A profile in a spool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// When its window began.
    pub start: Time,
    /// The length of the window in milliseconds; 0 for an instant profile.
    pub duration_ms: u64,
    /// The service.
    pub service: String,
    /// The kind of profile: `cpu`, `offcpu`, `heap` …
    pub kind: String,
    /// The process, if it is the only one in the file.
    pub pid: Option<u32>,
    /// Why it was written, if not at the end of a regular window: `oom`, `cpu` …
    pub mark: Option<String>,
}

impl Entry {
    /// When its window ended.
    pub fn end(&self) -> Time {
        self.start.saturating_add_unsigned(self.duration_ms)
    }

    /// The path of its file in the spool.
    pub fn path(&self) -> String {
        let time = Timestamp::from_millisecond(self.start).unwrap_or_default();
        let day = time.strftime("%Y%m%d");
        let second = time.strftime("%Y%m%dT%H%M%S");
        let ms = self.start.rem_euclid(1000);
        let pid = self.pid.map(|pid| format!("-p{pid}")).unwrap_or_default();
        let mark = self.mark.as_deref().map(|mark| format!("-{}", escape(mark))).unwrap_or_default();
        format!(
            "{}/{}/{day}/{second}.{ms:03}Z-{}ms{pid}{mark}{EXTENSION}",
            escape(&self.service),
            escape(&self.kind),
            self.duration_ms
        )
    }

    /// The entry of a file in the spool; `None`: it is not the name of a profile.
    pub fn of_path(path: &str) -> Option<Entry> {
        let mut parts = path.split('/');
        let (service, kind, _day, file) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut words = file.strip_suffix(EXTENSION)?.splitn(4, '-');
        let start = parse_time(words.next()?)?;
        let duration_ms = words.next()?.strip_suffix("ms")?.parse().ok()?;
        let (mut pid, mut mark) = (None, None);
        for word in words {
            match word.strip_prefix('p').and_then(|digits| digits.parse().ok()) {
                Some(number) if pid.is_none() && mark.is_none() => pid = Some(number),
                _ if mark.is_none() => mark = Some(unescape(word)?),
                _ => return None,
            }
        }
        let entry =
            Entry { start, duration_ms, service: unescape(service)?, kind: unescape(kind)?, pid, mark };
        // Otherwise two paths would stand for one entry.
        (entry.path() == path).then_some(entry)
    }
}

/// Parses `20261130T012000.000Z`.
fn parse_time(text: &str) -> Option<Time> {
    let (seconds, ms) = text.strip_suffix('Z')?.split_once('.')?;
    let at = civil::DateTime::strptime("%Y%m%dT%H%M%S", seconds).ok()?;
    let ms: i64 = (ms.len() == 3).then(|| ms.parse().ok()).flatten()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond() + ms)
}

/// A text as part of a file name: bytes other than letters, digits, `.` and `_` as `%XX`; a long
/// text is cut.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for (at, character) in text.char_indices() {
        let mut word = String::new();
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            match byte {
                b'.' if at == 0 => word.push_str("%2E"),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => word.push(byte.into()),
                _ => word.push_str(&format!("%{byte:02X}")),
            }
        }
        if escaped.len() + word.len() > MAX_WORD {
            break;
        }
        escaped += &word;
    }
    if escaped.is_empty() { "%".to_owned() } else { escaped }
}

fn unescape(name: &str) -> Option<String> {
    if name == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            start: 1_796_001_600_123,
            duration_ms: 60_000,
            service: "my-service/../é".into(),
            kind: "cpu".into(),
            pid: None,
            mark: None,
        }
    }

    #[test]
    fn the_path_of_an_entry_says_what_it_is() {
        for (pid, mark) in [(None, None), (Some(12), None), (None, Some("oom")), (Some(7), Some("p9 rss>1"))]
        {
            let entry = Entry { pid, mark: mark.map(str::to_owned), ..entry() };
            let path = entry.path();
            assert_eq!(Entry::of_path(&path), Some(entry), "{path}");
            assert_eq!(path.split('/').count(), 4, "{path}");
        }
        assert_eq!(
            entry().path(),
            "my%2Dservice%2F..%2F%C3%A9/cpu/20261130/20261130T012000.123Z-60000ms.pb.gz"
        );
    }

    #[test]
    fn a_path_that_is_not_that_of_an_entry_is_none() {
        for path in [
            "",
            "index",
            "a/cpu/20261130/x.pb.gz",
            "a/cpu/20261130/20261130T012000.123Z-60000ms.pb.gz.torn",
            "a/cpu/20261131/20261131T012000.123Z-60000ms.pb.gz",
            "a/cpu/20261130/20261130T012000.123Z-1ms-p1-p2-p3.pb.gz",
            "a/cpu/20261130/x/20261130T012000.123Z-60000ms.pb.gz",
            "a/cpu/20261129/20261130T012000.123Z-60000ms.pb.gz",
            "%zz/cpu/20261130/20261130T012000.123Z-60000ms.pb.gz",
        ] {
            assert_eq!(Entry::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_hidden_or_empty_or_long_service_has_an_ordinary_name() {
        for service in ["", ".", "..", ".git", &"x".repeat(1000)] {
            let path = Entry { service: service.to_owned(), ..entry() }.path();
            let folder = path.split('/').next().unwrap_or_default();
            assert!(!folder.is_empty() && !folder.starts_with('.') && folder.len() < 200, "{path}");
        }
    }
}
