//! Heap profiles of jemalloc (`prof.dump`, `MALLOC_CONF=prof_final:true`), version 2: a stack, the
//! counts of all threads (`t*:`), the counts of each thread, and the memory map.
//!
//! ```text
//! heap_v2/524288
//!   t*: 28106: 56637512 [0: 0]
//! @ 0x5f1f 0x5f3a
//!   t*: 13: 6688 [0: 0]
//! MAPPED_LIBRARIES:
//! ```
//!
//! `go tool pprof` does not read them; jeprof does. Not here: version 1, which has the form of
//! gperftools' ([`super::heap`]).

use super::{Draft, Lines, Refusal, heap::unsample, hex_addresses, is_blank_or_comment, maps};

const HEADER: &str = "heap_v2/";

/// Current and accumulated objects and bytes, as sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    inuse: (i64, i64),
    allocated: (i64, i64),
}

/// Parses `13: 6688 [0: 0]`.
fn counts(text: &str) -> Option<Counts> {
    let pair = |text: &str| {
        let (count, bytes) = text.split_once(':')?;
        let number = |text: &str| text.trim().parse::<i64>().ok().filter(|number| *number >= 0);
        Some((number(count)?, number(bytes)?))
    };
    let (inuse, allocated) = text.trim().strip_suffix(']')?.split_once('[')?;
    Some(Counts { inuse: pair(inuse)?, allocated: pair(allocated)? })
}

/// A stack and its counts.
type Stack = (Vec<u64>, Counts);

pub(super) fn read(bytes: &[u8]) -> Result<Draft, Refusal> {
    if !bytes.starts_with(HEADER.as_bytes()) {
        return Err(Refusal::Unrecognized);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    lines.advance();
    let period = lines.current[HEADER.len()..].trim().parse::<i64>().ok().filter(|period| *period > 0);
    let period =
        period.ok_or_else(|| Refusal::Broken("heap_v2: the sampling period is not a number".into()))?;
    let stacks = stacks(&mut lines).map_err(Refusal::Broken)?;
    let has_allocated = stacks.iter().any(|(_, counts)| counts.allocated != (0, 0));
    let mut kinds = vec![("inuse_objects", "count"), ("inuse_space", "bytes")];
    if has_allocated {
        kinds.splice(..0, [("alloc_objects", "count"), ("alloc_space", "bytes")]);
    }
    let mut draft = Draft::new(&kinds, ("space", "bytes"), period);
    for (addresses, counts) in stacks {
        let (objects, space) = counts.inuse;
        let mut values = Vec::from(<[i64; 2]>::from(unsample(objects, space, period)));
        if has_allocated {
            values.splice(..0, <[i64; 2]>::from(unsample(counts.allocated.0, counts.allocated.1, period)));
        }
        let block_bytes = (objects != 0).then(|| space / objects);
        // Every address is a return address: the leaf has called jemalloc.
        draft.push(values, &addresses, block_bytes, |_| true);
    }
    maps::skip_to_map(&mut draft, lines)?;
    Ok(draft)
}

/// The stacks up to the memory map. The first line of counts, before the first stack, is the sum.
fn stacks(lines: &mut Lines) -> Result<Vec<Stack>, String> {
    let mut stacks: Vec<Stack> = Vec::new();
    let mut number = 1;
    while lines.advance() {
        number += 1;
        let line = lines.current.trim();
        if is_blank_or_comment(line) {
            continue;
        }
        if maps::is_sentinel(line) {
            break;
        }
        let malformed = |what: &str| format!("heap_v2: line {number}: {what}: {line:.80}");
        if let Some(addresses) = line.strip_prefix('@') {
            let addresses = hex_addresses(addresses).map_err(|why| malformed(&why))?;
            stacks.push((addresses, Counts::default()));
        } else if let Some(of_all) = line.strip_prefix("t*:") {
            let counts = counts(of_all).ok_or_else(|| malformed("not the counts of a stack"))?;
            if let Some((_, stack)) = stacks.last_mut() {
                *stack = counts;
            }
        } else if !line.starts_with('t') {
            return Err(malformed("neither a stack nor counts"));
        }
    }
    Ok(stacks)
}

#[cfg(test)]
mod tests {
    use crate::profile::legacy::read;

    const TEXT: &str = "heap_v2/1000
  t*: 12: 30100 [0: 0]
  t0: 12: 30100 [0: 0]
@ 0x1011 0x1021 0x1031
  t*: 10: 30000 [0: 0]
  t0: 10: 30000 [0: 0]
@ 0x1011 0x1041
  t*: 2: 100 [0: 0]
  t3: 2: 100 [0: 0]

MAPPED_LIBRARIES:
00001000-00002000 r-xp 00000000 08:01 42 /bin/server
";

    #[test]
    fn a_heap_profile_of_jemalloc_is_read_and_scaled_as_jeprof_scales_it() {
        let columns = read(TEXT.as_bytes()).expect("jemalloc");
        let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
        assert_eq!(kinds, ["inuse_objects", "inuse_space"]);
        let scale = |bytes: f64| 1.0 / (1.0 - (-bytes / 1000.0).exp());
        let (large, small) = (scale(3000.0), scale(50.0));
        assert_eq!(columns.values(0), [(10.0 * large) as i64, (30000.0 * large) as i64]);
        assert_eq!(columns.values(1), [(2.0 * small) as i64, (100.0 * small) as i64]);
        let addresses: Vec<u64> =
            columns.stack(0).iter().map(|at| columns.locations[*at as usize].address).collect();
        assert_eq!(addresses, [0x1010, 0x1020, 0x1030]);
        let mapping = columns.mappings[0];
        assert_eq!((columns.text(mapping.file), mapping.start), ("/bin/server", 0x1000));
    }

    #[test]
    fn accumulated_allocations_are_shown_where_they_were_counted() {
        let columns = read(TEXT.replace("30000 [0: 0]", "30000 [20: 60000]").as_bytes()).expect("jemalloc");
        let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
        assert_eq!(kinds, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
        assert_eq!(columns.values(0)[0], columns.values(0)[2] * 2 + 1);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let error = |text: String| read(text.as_bytes()).expect_err("damaged").to_string();
        let damaged = error(TEXT.replace("t*: 2: 100", "t*: 2 100"));
        assert!(damaged.contains("line 8: not the counts of a stack"), "{damaged}");
        assert!(error(TEXT.replace("v2/1000", "v2/x")).contains("the sampling period is not a number"));
        assert!(error(TEXT.replace("@ 0x1011 0x1041", "? 0x1011")).contains("line 7: neither a stack"));
    }
}
