//! Divides the memory of mappings among parts.
//!
//! Not here: finding whose addresses are whose (`claims`).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use super::{Part, UNEXPLAINED, claims::Claim, libc_heap, pages::Pages, stacks};
use crate::process::regions::{MemoryUse, Region};

/// The names of parts that the names of mappings tell.
const CODE: &str = "code of programs";
const DATA: &str = "data of programs";
const FILES: &str = "mapped files";
const SHARED: &str = "shared memory";
const KERNEL: &str = "kernel pages";
const BREAK: &str = "program break";

/// Libraries that replace the C library's malloc, by the beginning of their file's name.
const ALLOCATORS: [(&str, &str); 5] = [
    ("libjemalloc", "jemalloc"),
    ("libtcmalloc", "tcmalloc"),
    ("libmimalloc", "mimalloc"),
    ("libsnmalloc", "snmalloc"),
    ("ld-musl-", "musl malloc"),
];

/// The allocator of another library that a process has mapped.
pub fn allocator(regions: &[Region]) -> Option<&'static str> {
    let name = |path: &'_ str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        ALLOCATORS.iter().find(|(prefix, _)| file.starts_with(prefix)).map(|(_, name)| *name)
    };
    regions.iter().filter(|region| region.mapping.inode != 0).find_map(|region| name(&region.mapping.path))
}

/// Divides the memory; the parts are sorted by what is resident, the largest first.
pub fn divide(pid: u32, regions: &[Region], claims: &[Claim], rest: Option<&str>) -> Vec<Part> {
    let mut sums = Sums { parts: BTreeMap::new(), pages: Pages::of(pid) };
    let programs = Programs::of(regions);
    let rest = allocator(regions).or(rest);
    for (index, region) in regions.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| regions.get(before));
        let unclaimed = sums.add_claimed(region, claims);
        for (name, used) in split(region, before, &programs, unclaimed) {
            match rest.filter(|_| name == UNEXPLAINED || name == BREAK) {
                Some(rest) => sums.add(rest, true, used),
                None => sums.add(&name, false, used),
            }
        }
    }
    let mut parts: Vec<Part> = sums.parts.into_values().collect();
    parts.retain(|part| part.used.rss + part.used.swap > 0);
    parts.sort_by_key(|part| (Reverse(part.used.rss), Reverse(part.used.swap)));
    parts
}

struct Sums {
    parts: BTreeMap<(String, bool), Part>,
    pages: Pages,
}

impl Sums {
    fn add(&mut self, name: &str, is_assumed: bool, used: MemoryUse) {
        let part = self.parts.entry((name.to_owned(), is_assumed)).or_insert_with(|| Part {
            name: name.to_owned(),
            is_assumed,
            mappings: 0,
            used: MemoryUse::default(),
        });
        part.mappings += 1;
        part.used += used;
    }

    /// Counts what of a region is claimed; returns the rest.
    fn add_claimed(&mut self, region: &Region, claims: &[Claim]) -> MemoryUse {
        let (start, end) = (region.mapping.start.0, region.mapping.end.0);
        let first = claims.partition_point(|claim| claim.range.end <= start);
        let mut left = accessible(region);
        for claim in claims[first..].iter().take_while(|claim| claim.range.start < end) {
            let range = claim.range.start.max(start)..claim.range.end.min(end);
            let used = if range == (start..end) { left } else { self.portion(region, &range, &left) };
            self.add(&claim.part, false, used);
            left = minus(left, used);
        }
        left
    }

    /// What a part of a region takes, at most `left`: by its pages, or by its share of the
    /// addresses.
    fn portion(&mut self, region: &Region, range: &Range<u64>, left: &MemoryUse) -> MemoryUse {
        let (used, size) = (&region.used, range.end - range.start);
        let whole = region.mapping.end.0 - region.mapping.start.0;
        let by_size = |bytes: u64| scaled(bytes, size, whole);
        let (rss, swap) = match (used.rss + used.swap, self.pages.count(range)) {
            (0, _) => (0, 0),
            (_, Some(counted)) => counted,
            (_, None) => (by_size(used.rss), by_size(used.swap)),
        };
        let rss = rss.min(left.rss);
        MemoryUse {
            size: size.min(left.size),
            rss,
            pss: scaled(used.pss, rss, used.rss).min(left.pss),
            anonymous: scaled(used.anonymous, rss, used.rss).min(left.anonymous),
            swap: swap.min(left.swap),
        }
    }
}

/// A region's memory; address space that cannot be accessed is only reserved.
fn accessible(region: &Region) -> MemoryUse {
    let mapping = &region.mapping;
    let is_accessible = mapping.readable || mapping.writable || mapping.executable;
    MemoryUse { size: if is_accessible { region.used.size } else { 0 }, ..region.used }
}

fn scaled(bytes: u64, share: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(share) / u128::from(whole.max(1))).unwrap_or(bytes)
}

fn minus(all: MemoryUse, part: MemoryUse) -> MemoryUse {
    MemoryUse {
        size: all.size.saturating_sub(part.size),
        rss: all.rss.saturating_sub(part.rss),
        pss: all.pss.saturating_sub(part.pss),
        anonymous: all.anonymous.saturating_sub(part.anonymous),
        swap: all.swap.saturating_sub(part.swap),
    }
}

/// The files with code that a process has mapped, by device and inode.
struct Programs(HashSet<(u32, u32, u64)>);

impl Programs {
    fn of(regions: &[Region]) -> Programs {
        let code = regions.iter().filter(|region| region.mapping.executable && region.mapping.inode != 0);
        Programs(code.map(identity).collect())
    }

    fn has(&self, region: &Region) -> bool {
        self.0.contains(&identity(region))
    }
}

fn identity(region: &Region) -> (u32, u32, u64) {
    let mapping = &region.mapping;
    (mapping.device_major, mapping.device_minor, mapping.inode)
}

/// What the name of a mapping says of memory that nothing claims.
fn split(
    region: &Region,
    before: Option<&Region>,
    programs: &Programs,
    used: MemoryUse,
) -> Vec<(String, MemoryUse)> {
    let mapping = &region.mapping;
    if is_shared_memory(region) {
        return vec![(SHARED.to_owned(), used)];
    }
    if mapping.inode != 0 {
        // Pages of a private mapping that were written are no longer the file's.
        let written = MemoryUse {
            size: 0,
            rss: used.anonymous,
            pss: used.pss.min(used.anonymous),
            anonymous: used.anonymous,
            swap: used.swap,
        };
        let (clean, is_program) = (minus(used, written), programs.has(region));
        return vec![
            (if is_program { CODE } else { FILES }.to_owned(), clean),
            (if is_program { DATA } else { FILES }.to_owned(), written),
        ];
    }
    // What a program's file does not contain of its data (.bss) follows it.
    let is_bss = before.is_some_and(|before| {
        before.mapping.end == mapping.start && before.mapping.writable && programs.has(before)
    });
    let name = match mapping.path.as_str() {
        "" if is_bss && mapping.writable => DATA.to_owned(),
        "" => UNEXPLAINED.to_owned(),
        "[heap]" => BREAK.to_owned(),
        "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[vsyscall]" | "[uprobes]" => KERNEL.to_owned(),
        path if path.starts_with("[stack") => stacks::PART.to_owned(),
        path => of_name(path),
    };
    vec![(name, used)]
}

/// The part of an anonymous mapping that its program has named (PR_SET_VMA of prctl(2)).
fn of_name(path: &str) -> String {
    let name = path.strip_prefix("[anon:").and_then(|name| name.strip_suffix(']'));
    match name.map(str::trim) {
        Some(name) if name.starts_with("glibc: pthread stack") => stacks::PART.to_owned(),
        Some(name) if name.starts_with("glibc: malloc") => libc_heap::PART.to_owned(),
        Some(name) if name.starts_with("jemalloc_pg") => "jemalloc".to_owned(),
        Some(name) => format!("named \"{name}\""),
        None => format!("named {path}"),
    }
}

fn is_shared_memory(region: &Region) -> bool {
    let path = region.mapping.path.as_str();
    let of_memory =
        ["/dev/shm/", "/memfd:", "/SYSV", "[anon_shmem:"].iter().any(|prefix| path.starts_with(prefix));
    of_memory || (region.is_shared && (path == "/dev/zero" || path.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::regions::parse;

    const TEXT: &str = "\
1000-3000 r-xp 00000000 fe:00 5     /bin/app
Rss: 8 kB
Pss: 4 kB
3000-5000 rw-p 00002000 fe:00 5     /bin/app
Rss: 8 kB
Pss: 6 kB
Anonymous: 4 kB
5000-6000 rw-p 00000000 00:00 0
Rss: 4 kB
Pss: 4 kB
8000-9000 r--p 00000000 fe:00 6     /usr/share/data
Rss: 4 kB
a000-c000 rw-p 00000000 00:00 0
Size: 8 kB
Rss: 8 kB
Pss: 8 kB
Anonymous: 8 kB
d000-e000 rw-s 00000000 00:01 7     /dev/zero (deleted)
Rss: 4 kB
f000-10000 rw-p 00000000 00:00 0    [anon: glibc: malloc arena]
Rss: 4 kB
11000-12000 rw-p 00000000 fe:00 8   /usr/lib/libjemalloc.so.2
";

    fn rss(parts: &[Part], name: &str) -> Option<u64> {
        parts.iter().find(|part| part.name == name).map(|part| part.used.rss >> 10)
    }

    #[test]
    fn the_names_of_mappings_tell_what_they_are() {
        let regions = parse(TEXT.as_bytes()).expect("read");
        let parts = divide(0, &regions[..7], &[], None);
        for (name, kib) in
            [(CODE, 12), (DATA, 8), (FILES, 4), (UNEXPLAINED, 8), (SHARED, 4), ("glibc malloc", 4)]
        {
            assert_eq!(rss(&parts, name), Some(kib), "{name}: {parts:#?}");
        }
    }

    #[test]
    fn what_nothing_explains_is_assumed_to_be_the_only_other_allocators() {
        let regions = parse(TEXT.as_bytes()).expect("read");
        let parts = divide(0, &regions, &[], None);
        let part = parts.iter().find(|part| part.name == "jemalloc").expect("a part");
        assert!(part.is_assumed && part.used.rss == 8 << 10 && rss(&parts, UNEXPLAINED).is_none());
    }

    #[test]
    fn a_claim_takes_its_share_and_the_rest_stays() {
        let regions = parse(TEXT.as_bytes()).expect("read");
        let claims = [Claim { range: 0xb000..0xd000, part: "mine".to_owned() }];
        let parts = divide(0, &regions[..7], &claims, None);
        assert_eq!((rss(&parts, "mine"), rss(&parts, UNEXPLAINED)), (Some(4), Some(4)));
    }
}
