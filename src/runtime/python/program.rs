//! The compiled walker of CPython frames (`walk.bpf.c`, built by scripts/bpf), as samplers load it.
//!
//! Not here: its settings for an interpreter, decoding what it writes (`walker`).

use super::walker::WalkerSettings;
use crate::process::{FrameWalker, LanguageId, WalkerProgram};

/// The walker of CPython frames.
pub const WALKER: WalkerProgram = WalkerProgram {
    name: "python",
    object: aya::include_bytes_aligned!(concat!("walk.", crate::arch::native_name!(), ".bpf.o")),
};

impl WalkerSettings {
    /// What a sampler needs to run the walker with these settings, for sections of `language`.
    pub fn walker(&self, language: LanguageId) -> FrameWalker {
        let halves = [
            self.form,
            self.tstate_frame,
            self.cframe_frame,
            self.cframe_previous,
            self.code,
            self.previous,
            self.instr,
            self.entry,
            self.header_bytes,
            self.entry_min,
            self.thread_id,
            self.tstate_interp,
            self.gil_holder,
            self.reserved,
        ];
        let words = [self.code_mask, self.instr_mask, self.slot.cast_unsigned(), self.current, self.gil];
        let halves = halves.into_iter().flat_map(u32::to_ne_bytes);
        let settings = halves.chain(words.into_iter().flat_map(u64::to_ne_bytes)).collect();
        FrameWalker { language, program: WALKER, settings }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::BufRead as _,
        mem::offset_of,
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use super::{super::live_tests, *};
    use crate::{
        process::Hints,
        runtime::python::walker::{
            COMPLETE, CUT, FORM_CFRAME, FORM_CURRENT, FORM_OBJECTS, GAP, GIL_KNOWN, HOLDS_GIL, MAX_FRAMES,
            NO_THREAD_STATE, RESTARTED, Section, SectionHead, UNREADABLE, WalkedFrame,
        },
        sampler::{
            Event, Sampler as _, SamplerOptions, Trigger,
            bpf::{self, kernel_types::Types},
        },
    };

    const LANGUAGE: LanguageId = LanguageId(9);

    #[test]
    fn settings_and_section_have_the_layout_in_the_objects_types() {
        let parsed = aya_obj::Object::parse(WALKER.object).expect("parses");
        let btf = parsed.btf.as_ref().expect("types").to_bytes();
        let types = Types::parse(&btf).expect("parses");
        macro_rules! same {
            ($structure:ty, $name:literal, $($member:ident),*) => {
                $(
                    let found = types.member_offset($name, stringify!($member).as_bytes());
                    assert_eq!(found, Some(offset_of!($structure, $member)), stringify!($member));
                )*
                assert_eq!(types.structure_bytes($name), Some(size_of::<$structure>()));
            };
        }
        same!(
            WalkerSettings,
            b"python_settings",
            form,
            tstate_frame,
            cframe_frame,
            cframe_previous,
            code,
            previous,
            instr,
            entry,
            header_bytes,
            entry_min,
            thread_id,
            tstate_interp,
            gil_holder,
            reserved,
            code_mask,
            instr_mask,
            slot,
            current,
            gil
        );
        same!(SectionHead, b"python_head", tstate, anchor, flags, frames);
        same!(WalkedFrame, b"python_frame", code, instr, address);
        for (name, value) in [
            ("FORM_OBJECTS", FORM_OBJECTS),
            ("FORM_CFRAME", FORM_CFRAME),
            ("FORM_CURRENT", FORM_CURRENT),
            ("COMPLETE", COMPLETE),
            ("CUT", CUT),
            ("UNREADABLE", UNREADABLE),
            ("RESTARTED", RESTARTED),
            ("GAP", GAP),
            ("NO_THREAD_STATE", NO_THREAD_STATE),
            ("HOLDS_GIL", HOLDS_GIL),
            ("GIL_KNOWN", GIL_KNOWN),
            ("MAX_FRAMES", MAX_FRAMES as u32),
        ] {
            assert_eq!(types.enumerator(name.as_bytes()), Some(value), "{name}");
        }
    }

    #[test]
    fn the_settings_bytes_have_each_setting_at_its_offset() {
        let settings =
            WalkerSettings { form: 1, reserved: 2, code_mask: 3, slot: -4, gil: 5, ..Default::default() };
        let bytes = settings.walker(LANGUAGE).settings;
        assert_eq!(bytes.len(), size_of::<WalkerSettings>());
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!((bytes[0], bytes[offset_of!(WalkerSettings, reserved)]), (1, 2));
        assert_eq!(word(offset_of!(WalkerSettings, code_mask)), 3);
        assert_eq!(word(offset_of!(WalkerSettings, slot)).cast_signed(), -4);
        assert_eq!(word(offset_of!(WalkerSettings, gil)), 5);
    }

    /// Threads with chains of frames of known length as CPython 3.13 has them: each computes, and
    /// has its state in thread-local storage, whose distance from the thread pointer is printed.
    /// The first argument is the length; with a second one, a new thread begins every 5 ms.
    const PROGRAM: &str = r#"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
struct frame { uint64_t code, previous, instr; unsigned char pad[2], owner; };
struct state { uint64_t unused; struct frame *frame; };
static __thread struct state *current;
static long length, lived_ns;
static long ns(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static void *run(void *unused) {
    struct frame *frames = calloc(length, sizeof *frames);
    struct state state = { 0, frames };
    for (long i = 0; i < length; i++) {
        frames[i].code = 0x10000 + i;
        frames[i].instr = 7 * i;
        frames[i].previous = i + 1 < length ? (uint64_t)&frames[i + 1] : 0;
        frames[i].owner = i + 1 < length ? 0 : 3;
    }
    current = &state;
    while (!lived_ns || ns() < lived_ns);
    current = 0;
    free(frames);
    return unused;
}
int main(int argc, char **argv) {
    length = atol(argv[1]);
    printf("%ld\n", (long)((char *)&current - (char *)__builtin_thread_pointer()));
    fflush(stdout);
    if (argc < 3) run(0);
    lived_ns = 5000000;
    for (;;) { pthread_t t; pthread_create(&t, 0, run, 0); pthread_join(t, 0); }
}
"#;

    struct Program {
        child: Child,
        settings: WalkerSettings,
        _folder: tempfile::TempDir,
    }

    impl Program {
        fn start(arguments: &[&str]) -> Program {
            let folder = tempfile::tempdir().expect("folder");
            let (source, path) = (folder.path().join("program.c"), folder.path().join("program"));
            std::fs::write(&source, PROGRAM).expect("write");
            let built = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&path).arg(&source).status();
            assert!(built.expect("a C compiler").success());
            let mut child =
                Command::new(&path).args(arguments).stdout(Stdio::piped()).spawn().expect("start");
            let mut line = String::new();
            let output = child.stdout.take().expect("output");
            std::io::BufReader::new(output).read_line(&mut line).expect("line");
            let settings = WalkerSettings {
                form: FORM_CURRENT,
                tstate_frame: 8,
                code: 0,
                previous: 8,
                instr: 16,
                entry: 26,
                header_bytes: 32,
                entry_min: 3,
                code_mask: u64::MAX,
                instr_mask: u64::MAX,
                slot: line.trim().parse().expect("a distance"),
                ..Default::default()
            };
            Program { child, settings, _folder: folder }
        }

        fn hints(&self) -> Hints {
            Hints { walker: Some(self.settings.walker(LANGUAGE)), ..Hints::default() }
        }

        /// The sections of samples of user code, and the number of samples.
        fn sections(&self, trigger: Trigger) -> (Vec<Section>, usize) {
            let mut sections = Vec::new();
            let target = (self.child.id(), &self.hints(), LANGUAGE);
            let samples = live_tests::sample(target, trigger, 300, |section| sections.extend(section));
            (sections, samples)
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Asserts that the frames are the first `count` of the program's chain.
    fn assert_chain(section: &Section, count: usize) {
        assert_eq!(section.frames.len(), count);
        for (index, frame) in section.frames.iter().enumerate() {
            assert_eq!((frame.code, frame.instr), (0x10000 + index as u64, 7 * index as u64));
        }
        assert!(!section.is_circular());
    }

    #[test]
    fn each_sample_has_the_whole_chain_whatever_its_length() {
        for length in [1, 33, 34, 35, 700, MAX_FRAMES] {
            let program = Program::start(&[&length.to_string()]);
            let (sections, samples) = program.sections(Trigger::Time);
            assert!(
                samples >= 300 && sections.len() * 100 >= samples * 95,
                "{} of {samples}",
                sections.len()
            );
            let whole: Vec<_> = sections.iter().filter(|section| section.has(COMPLETE)).collect();
            assert!(whole.len() * 100 >= samples * 95, "{} of {samples} are complete", whole.len());
            for section in whole {
                assert_chain(section, length);
                assert_eq!((section.head.flags, section.frames[length - 1].entry()), (COMPLETE, 3));
            }
        }
    }

    #[test]
    fn a_longer_chain_is_cut_and_says_so() {
        let program = Program::start(&["5000"]);
        let (sections, samples) = program.sections(Trigger::Time);
        let cut: Vec<_> = sections.iter().filter(|section| section.has(CUT)).collect();
        assert!(samples >= 300 && cut.len() * 100 >= samples * 95, "{} of {samples}", cut.len());
        cut.into_iter().for_each(|section| assert_chain(section, MAX_FRAMES));
    }

    #[test]
    fn threads_of_5_ms_have_their_frames_from_their_first_sample_on() {
        let program = Program::start(&["20", "threads"]);
        let (sections, samples) = program.sections(Trigger::Time);
        let whole = sections.iter().filter(|section| section.has(COMPLETE)).count();
        // Beginning and ending threads have no state.
        assert!(samples >= 300 && whole * 100 >= samples * 85, "{whole} of {samples}");
    }

    #[test]
    fn if_the_language_alone_is_wanted_no_stack_is_copied_where_it_has_frames() {
        let program = Program::start(&["20"]);
        let pid = program.child.id();
        let options = SamplerOptions { language_alone: true, ..live_tests::options(pid, Trigger::Time) };
        let mut sampler = bpf::open(&options).expect("root may");
        let (mut with_frames, mut without) = (0, 0);
        for round in 0..40 {
            if round == 10 {
                sampler.hint_runtimes(pid, &program.hints()).expect("the kernel takes the walker");
            }
            let mut sink = |event: Event<'_>| {
                let Event::Sample(sample) = event else { return };
                // Those of the kernel have the registers that it was entered with.
                assert_eq!(sample.stack.bytes.is_empty(), !sample.sections.is_empty());
                *if sample.sections.is_empty() { &mut without } else { &mut with_frames } += 1;
            };
            sampler.poll(Duration::from_millis(50), &mut sink).expect("poll");
        }
        assert!(with_frames > 100 && without > 50, "{with_frames} and {without}");
    }

    #[test]
    fn without_settings_there_is_no_section_and_the_stack_is_still_there() {
        let program = Program::start(&["20"]);
        let pid = program.child.id();
        let mut sampler = bpf::open(&live_tests::options(pid, Trigger::Time)).expect("root may");
        sampler.hint_runtimes(pid, &program.hints()).expect("the kernel takes the walker");
        sampler.hint_runtimes(pid, &Hints::default()).expect("taken back");
        let _ = sampler.poll(Duration::from_millis(300), &mut |_| {});
        let mut samples = 0;
        for _ in 0..20 {
            let mut sink = |event: Event<'_>| {
                if let Event::Sample(sample) = event {
                    samples += 1;
                    assert!(sample.sections.is_empty() && !sample.stack.bytes.is_empty());
                }
            };
            sampler.poll(Duration::from_millis(50), &mut sink).expect("poll");
        }
        assert!(samples > 20, "{samples}");
        let wrong = FrameWalker { settings: vec![0; 8], ..program.settings.walker(LANGUAGE) };
        let hints = Hints { walker: Some(wrong), ..Hints::default() };
        assert!(sampler.hint_runtimes(pid, &hints).is_err());
    }
}
