//! The structure layouts of each Go release: one row per release, offsets in bytes.
//!
//! Source of each row: the DWARF of a program built by that release (the named patch release), the
//! same on amd64 and arm64. Patch releases have moved fields of `m`, never of `g`; so fields of `m`
//! behind `curg` are found by content, or not used. Not here: finding global variables.

use super::version::Version;

/// Offsets that differ between releases. The same in all releases: `g.stack` 0, `g.m` 48, `g.sched`
/// 56, `gobuf` sp 0, pc 8, g 16; `m.g0` 0; `bucket` allnext 8, typ 16, size 32, nstk 40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `go1.MINOR`.
    pub minor: u32,
    /// The release it was read from.
    pub source: &'static str,
    /// `g.syscallsp`.
    pub syscallsp: usize,
    /// `g.syscallpc`.
    pub syscallpc: usize,
    /// `g.atomicstatus`.
    pub atomicstatus: usize,
    /// `g.goid`.
    pub goid: usize,
    /// `g.waitsince`.
    pub waitsince: usize,
    /// `g.waitreason`.
    pub waitreason: usize,
    /// `g.trackingSeq`.
    pub tracking_seq: usize,
    /// `g.lockedm`.
    pub lockedm: usize,
    /// `g.parentGoid`; 0: not recorded before Go 1.21.
    pub parent_goid: usize,
    /// `g.gopc`.
    pub gopc: usize,
    /// `g.startpc`.
    pub startpc: usize,
    /// `g.labels`.
    pub labels: usize,
    /// `g.syncGroup`, later `g.bubble`; 0: the release has none.
    pub bubble: usize,
    /// `g.runningCleanups`; 0: the release has none.
    pub running_cleanups: usize,
    /// `m.procid`.
    pub procid: usize,
    /// `m.curg`.
    pub curg: usize,
    /// `m.alllink`: where to look first; found by content.
    pub alllink: usize,
    /// `m.createstack` minus `m.alllink`.
    pub createstack_after: usize,
    /// `m.vdsoSP`.
    pub vdso_sp: usize,
    /// Whether `memRecordCycle` has byte counts.
    pub counts_bytes: bool,
    /// Whether `g.labels` is a list; before Go 1.24 it is a map.
    pub labels_are_list: bool,
    /// `schedt.nmidle`.
    pub sched_nmidle: usize,
    /// `schedt.npidle`.
    pub sched_npidle: usize,
    /// `schedt.nmspinning`.
    pub sched_nmspinning: usize,
    /// `mstats.numgc`.
    pub mstats_numgc: usize,
    /// `mstats.numforcedgc`.
    pub mstats_numforcedgc: usize,
    /// `mstats.pause_total_ns`.
    pub mstats_pause_total: usize,
    /// `mstats.last_gc_unix`.
    pub mstats_last_gc_unix: usize,
    /// `gcControllerState.memoryLimit`; 0: the release has none.
    pub gc_memory_limit: usize,
    /// `gcControllerState.heapLive`.
    pub gc_heap_live: usize,
    /// `gcControllerState.heapMarked`.
    pub gc_heap_marked: usize,
}

/// `m.g0`, in all releases.
pub const M_G0: usize = 0;
/// `g.m`, in all releases.
pub const G_M: usize = 48;
/// `g.sched.sp`, in all releases.
pub const G_SCHED_SP: usize = 56;
/// `g.sched.pc`, in all releases.
pub const G_SCHED_PC: usize = 64;
/// `g.sched.g`, in all releases.
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

/// All rows, ascending by release.
const ROWS: [Layout; 10] =
    [ROW_118, ROW_119, ROW_120, ROW_121, ROW_122, ROW_123, ROW_124, ROW_125, ROW_126, ROW_127];

impl Layout {
    /// The row of a release. A release newer than all rows gets the newest row and `false`: its
    /// data must be checked.
    pub fn of(version: &Version) -> Option<(Layout, bool)> {
        let newest = ROWS.last()?;
        if version.minor > newest.minor {
            return Some((*newest, false));
        }
        ROWS.iter().find(|row| row.minor == version.minor).map(|row| (*row, true))
    }

    /// `g.sched.bp`, the last field of `gobuf`, before `g.syscallsp`.
    pub fn sched_bp(&self) -> usize {
        self.syscallsp - 8
    }

    /// How many bytes of a `g` are read.
    pub fn g_bytes(&self) -> usize {
        [self.labels, self.startpc, self.bubble, self.gopc].into_iter().max().unwrap_or(0) + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_a_row_and_a_newer_one_is_recognized() {
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
