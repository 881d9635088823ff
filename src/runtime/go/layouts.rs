//! Where the runtime of each Go release keeps what rprof reads: one row a release, offsets in bytes.
//!
//! Source of each row: the DWARF of a program built by that release (the last of its patches that is
//! named), the same on amd64 and arm64. Patch releases have moved fields of `m`, never of `g`: what is
//! read of `m` behind `curg` is found by content, or not used. Not here: finding globals.

use super::version::Version;

/// Offsets that differ between releases. What never has: `g.stack` 0, `g.m` 48, `g.sched` 56, `gobuf`
/// sp 0, pc 8, g 16; `m.g0` 0; `bucket` allnext 8, typ 16, size 32, nstk 40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `go1.MINOR`.
    pub minor: u32,
    /// The release it was read from.
    pub source: &'static str,
    pub syscallsp: usize,
    pub syscallpc: usize,
    pub atomicstatus: usize,
    pub goid: usize,
    pub waitsince: usize,
    pub waitreason: usize,
    pub tracking_seq: usize,
    pub lockedm: usize,
    /// 0: not recorded before Go 1.21.
    pub parent_goid: usize,
    pub gopc: usize,
    pub startpc: usize,
    pub labels: usize,
    /// `g.syncGroup`, then `g.bubble`: 0 where there is none.
    pub bubble: usize,
    /// `g.runningCleanups`: 0 where there is none.
    pub running_cleanups: usize,
    pub procid: usize,
    pub curg: usize,
    /// Where to look first; found by content.
    pub alllink: usize,
    /// `m.createstack` less `m.alllink`.
    pub createstack_after: usize,
    pub vdso_sp: usize,
    /// `memRecordCycle` has the bytes too.
    pub counts_bytes: bool,
    /// `g.labels` is a list; before Go 1.24 it was a map.
    pub labels_are_list: bool,
    /// Of `schedt`: idle and spinning threads, idle processors.
    pub sched_nmidle: usize,
    pub sched_npidle: usize,
    pub sched_nmspinning: usize,
    /// Of `mstats`.
    pub mstats_numgc: usize,
    pub mstats_numforcedgc: usize,
    pub mstats_pause_total: usize,
    pub mstats_last_gc_unix: usize,
    /// Of `gcControllerState`: limit of memory (0: none yet), live and marked heap.
    pub gc_memory_limit: usize,
    pub gc_heap_live: usize,
    pub gc_heap_marked: usize,
}

pub const M_G0: usize = 0;
pub const G_M: usize = 48;
pub const G_SCHED_SP: usize = 56;
pub const G_SCHED_PC: usize = 64;
pub const G_SCHED_G: usize = 72;

const ROW_118: Layout = Layout {
    minor: 18,
    source: "go1.18.10",
    syscallsp: 112,
    syscallpc: 120,
    atomicstatus: 144,
    goid: 152,
    waitsince: 168,
    waitreason: 176,
    tracking_seq: 189,
    lockedm: 232,
    parent_goid: 0,
    gopc: 296,
    startpc: 312,
    labels: 360,
    bubble: 0,
    running_cleanups: 0,
    procid: 72,
    curg: 192,
    alllink: 336,
    createstack_after: 24,
    vdso_sp: 800,
    counts_bytes: true,
    labels_are_list: false,
    sched_nmidle: 40,
    sched_npidle: 88,
    sched_nmspinning: 92,
    mstats_numgc: 4280,
    mstats_numforcedgc: 4284,
    mstats_pause_total: 176,
    mstats_last_gc_unix: 168,
    gc_memory_limit: 0,
    gc_heap_live: 120,
    gc_heap_marked: 168,
};

const ROW_119: Layout = Layout {
    minor: 19,
    source: "go1.19.13",
    mstats_numgc: 7704,
    mstats_numforcedgc: 7708,
    mstats_pause_total: 3600,
    mstats_last_gc_unix: 3592,
    gc_memory_limit: 8,
    gc_heap_live: 136,
    gc_heap_marked: 184,
    ..ROW_118
};

const ROW_120: Layout =
    Layout { minor: 20, source: "go1.20.14", gc_heap_live: 80, gc_heap_marked: 128, ..ROW_119 };

const ROW_121: Layout = Layout {
    minor: 21,
    source: "go1.21.13",
    tracking_seq: 188,
    lockedm: 208,
    parent_goid: 272,
    gopc: 280,
    startpc: 296,
    labels: 344,
    vdso_sp: 808,
    gc_heap_live: 104,
    gc_heap_marked: 152,
    ..ROW_120
};

const ROW_122: Layout =
    Layout { minor: 22, source: "go1.22.12", tracking_seq: 191, alllink: 328, vdso_sp: 1120, ..ROW_121 };

const ROW_123: Layout = Layout {
    minor: 23,
    source: "go1.23.9",
    atomicstatus: 152,
    goid: 160,
    waitsince: 176,
    waitreason: 184,
    tracking_seq: 199,
    lockedm: 216,
    parent_goid: 280,
    gopc: 288,
    startpc: 304,
    labels: 352,
    vdso_sp: 856,
    ..ROW_122
};

const ROW_124: Layout = Layout {
    minor: 24,
    source: "go1.24.11",
    bubble: 392,
    alllink: 352,
    vdso_sp: 904,
    labels_are_list: true,
    ..ROW_123
};

const ROW_125: Layout = Layout {
    minor: 25,
    source: "go1.25.5",
    syscallsp: 104,
    syscallpc: 112,
    atomicstatus: 144,
    goid: 152,
    waitsince: 168,
    waitreason: 176,
    tracking_seq: 191,
    lockedm: 208,
    parent_goid: 272,
    gopc: 280,
    startpc: 296,
    labels: 344,
    bubble: 384,
    running_cleanups: 218,
    procid: 64,
    curg: 184,
    alllink: 344,
    vdso_sp: 896,
    sched_nmidle: 48,
    sched_npidle: 96,
    sched_nmspinning: 100,
    mstats_numgc: 7680,
    mstats_numforcedgc: 7684,
    mstats_pause_total: 3576,
    mstats_last_gc_unix: 3568,
    ..ROW_124
};

const ROW_126: Layout = Layout {
    minor: 26,
    source: "go1.26.8",
    parent_goid: 280,
    gopc: 288,
    startpc: 304,
    labels: 352,
    bubble: 392,
    running_cleanups: 220,
    alllink: 352,
    createstack_after: 40,
    sched_nmidle: 64,
    sched_npidle: 112,
    sched_nmspinning: 116,
    ..ROW_125
};

const ROW_127: Layout = Layout { minor: 27, source: "go1.27.3", counts_bytes: false, ..ROW_126 };

/// Ascending by release.
const ROWS: [Layout; 10] =
    [ROW_118, ROW_119, ROW_120, ROW_121, ROW_122, ROW_123, ROW_124, ROW_125, ROW_126, ROW_127];

impl Layout {
    /// The row of a release. A newer one than is known gets the newest row, and `false`: to be believed
    /// only as far as it is checked.
    pub fn of(version: &Version) -> Option<(Layout, bool)> {
        let newest = ROWS.last()?;
        if version.minor > newest.minor {
            return Some((*newest, false));
        }
        ROWS.iter().find(|row| row.minor == version.minor).map(|row| (*row, true))
    }

    /// `g.sched.bp`, the last of `gobuf`, which `g.syscallsp` follows.
    pub fn sched_bp(&self) -> usize {
        self.syscallsp - 8
    }

    /// How much of a `g` is read.
    pub fn g_bytes(&self) -> usize {
        [self.labels, self.startpc, self.bubble, self.gopc].into_iter().max().unwrap_or(0) + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_a_row_and_a_newer_one_is_told_apart() {
        for minor in 18..=27 {
            let (row, is_known) = Layout::of(&Version { minor, patch: 0 }).expect("a row");
            assert!(is_known && row.minor == minor && row.source.starts_with(&format!("go1.{minor}.")));
        }
        assert_eq!(
            Layout::of(&Version { minor: 28, patch: 1 }).map(|(row, known)| (row.minor, known)),
            Some((27, false))
        );
        assert_eq!(Layout::of(&Version { minor: 17, patch: 0 }), None);
    }
}
