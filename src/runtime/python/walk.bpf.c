// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The walker of CPython's frames: finds the state of the sampled thread and follows its chain of frames, leaf
// first. It knows no version: all offsets are settings. How it walks, and the layout of settings and section,
// is described in walker.rs, whose constants and structures these are.
//
// Not here: names, lines. Built by scripts/bpf.

#include "walker.bpf.h"

enum form {
	FORM_OBJECTS = 1,
	FORM_CFRAME = 2,
	FORM_CURRENT = 3,
};

enum walk_flag {
	COMPLETE = 1,
	CUT = 2,
	UNREADABLE = 4,
	RESTARTED = 8,
	GAP = 16,
	NO_THREAD_STATE = 32,
	HOLDS_GIL = 64,
	GIL_KNOWN = 128,
};

// `struct WalkerSettings` of walker.rs.
struct python_settings {
	enum form form;
	__u32 tstate_frame;
	__u32 cframe_frame;
	__u32 cframe_previous;
	__u32 code;
	__u32 previous;
	__u32 instr;
	__u32 entry;
	__u32 header_bytes;
	__u32 entry_min;
	__u32 thread_id;
	__u32 tstate_interp;
	__u32 gil_holder;
	__u32 reserved;
	__u64 code_mask;
	__u64 instr_mask;
	__s64 slot;
	__u64 current;
	__u64 gil;
};

struct python_head {
	__u64 tstate;
	__u64 anchor;
	enum walk_flag flags;
	__u32 frames;
};

struct python_frame {
	__u64 code;
	__u64 instr;
	// The entry byte is the top byte.
	__u64 address;
};

enum limit {
	MAX_FRAMES = 1000,
};
#define FRAMES_A_RUN 34
#define HEADER_WORDS 16

struct python_section {
	struct python_head head;
	struct python_frame frames[MAX_FRAMES];
};

// The walk so far. In memory, not in registers: any number to the verifier, so that the ways through the
// loop join again.
struct walk {
	volatile __u64 next;
	volatile __u64 count;
	// The entry byte of the last frame.
	volatile __u64 last;
	// The frame of the evaluation before, if there is such an evaluation and it was not reached yet.
	volatile __u64 expected;
	volatile __u64 has_expected;
	__u64 header[HEADER_WORDS];
	// Never used: they make what walker.rs describes part of the object's types, with which it is compared.
	struct python_head head_type;
	struct python_frame frame_type;
	enum limit limit_type;
};

WALKER_SETTINGS(struct python_settings);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

// A word of the process's memory, 0 if it cannot be read.
static __always_inline __u64 word_at(__u64 address)
{
	__u64 word = 0;

	return bpf_probe_read_user(&word, sizeof(word), (void *)address) ? 0 : word;
}

static __always_inline __u64 field(struct walk *walk, __u32 offset)
{
	return walk->header[(offset >> 3) & (HEADER_WORDS - 1)];
}

static __always_inline __u64 find_thread_state(struct record_buffer *buffer, const struct python_settings *set)
{
	__u64 pointer = buffer->head.thread_pointer, state = 0, *known;
	__u32 tid = buffer->head.tid;

	if (set->current) {
		// Right for sub-interpreters, too.
		state = word_at(set->current);
		if (state && word_at(state + set->thread_id) == pointer)
			return state;
		state = 0;
	}
	if (set->slot)
		state = word_at(pointer + set->slot);
	if (state)
		return state;
	known = bpf_map_lookup_elem(&thread_states, &tid);
	return known ? *known : 0;
}

// Whether the thread holds the interpreter lock.
static __always_inline __u32 lock_flags(const struct python_settings *set, __u64 state)
{
	__u64 holder = set->gil, last = 0;
	__u32 locked = 0;

	if (set->tstate_interp) {
		holder = word_at(word_at(state + set->tstate_interp) + set->gil);
		if (!holder)
			return 0;
		holder += set->gil_holder;
	}
	if (!set->gil || bpf_probe_read_user(&last, sizeof(last), (void *)holder) ||
	    bpf_probe_read_user(&locked, sizeof(locked), (void *)(holder + 8)))
		return 0;
	return locked && last == state ? GIL_KNOWN | HOLDS_GIL : GIL_KNOWN;
}

// Finds the thread's state and its innermost frame. 0: there are no frames.
static __always_inline int begin_walk(struct record_buffer *buffer, const struct python_settings *set,
				      struct walk *walk, struct python_head *head)
{
	__u64 state = find_thread_state(buffer, set), at;

	head->tstate = state;
	head->anchor = 0;
	head->flags = 0;
	walk->count = 0;
	walk->last = 0;
	walk->expected = 0;
	walk->has_expected = 0;
	if (!state) {
		head->flags = NO_THREAD_STATE;
		return 0;
	}
	head->flags = lock_flags(set, state);
	if (bpf_probe_read_user(&at, sizeof(at), (void *)(state + set->tstate_frame))) {
		head->flags |= UNREADABLE;
		return 0;
	}
	walk->next = at;
	if (set->form != FORM_CFRAME)
		return 1;
	head->anchor = at;
	walk->next = word_at(at + set->cframe_frame);
	at = word_at(at + set->cframe_previous);
	if (at) {
		walk->expected = word_at(at + set->cframe_frame);
		walk->has_expected = 1;
	}
	return 1;
}

// Starts again with what ran before the evaluation that is just being entered.
static __always_inline void restart(struct walk *walk, struct python_head *head)
{
	head->flags |= RESTARTED;
	walk->has_expected = 0;
	walk->count = 0;
	walk->next = walk->expected;
}

// One frame. 0: that was all.
static __always_inline int step(const struct python_settings *set, struct walk *walk,
				struct python_section *section)
{
	__u64 at = walk->next, bytes = set->header_bytes, entry, previous, index;
	struct python_head *head = &section->head;
	struct python_frame *frame;

	if (!at) {
		if (set->form == FORM_OBJECTS || walk->last >= set->entry_min) {
			head->flags |= COMPLETE;
			return 0;
		}
		// A generator that is being left has no `previous`.
		if (!walk->has_expected || !walk->expected)
			return 0;
		walk->has_expected = 0;
		head->flags |= GAP;
		at = walk->expected;
	}
	USE_CHECKED_COPY(bytes);
	if (bytes > sizeof(walk->header))
		return 0;
	USE_CHECKED_COPY(bytes);
	if (bpf_probe_read_user(walk->header, bytes, (void *)at)) {
		if (walk->has_expected) {
			restart(walk, head);
			return 1;
		}
		head->flags |= UNREADABLE;
		return 0;
	}
	entry = (field(walk, set->entry) >> ((set->entry & 7) * 8)) & 0xff;
	previous = field(walk, set->previous);
	if (walk->has_expected && entry >= set->entry_min) {
		// What was entered last must hang on what ran before; else its frame is not valid yet.
		if (previous != walk->expected) {
			restart(walk, head);
			return 1;
		}
		walk->has_expected = 0;
	}
	index = walk->count;
	USE_CHECKED_COPY(index);
	if (index >= MAX_FRAMES) {
		head->flags |= CUT;
		return 0;
	}
	frame = &section->frames[index];
	frame->code = field(walk, set->code) & set->code_mask;
	frame->instr = field(walk, set->instr) >> ((set->instr & 4) * 8) & set->instr_mask;
	frame->address = at | entry << 56;
	walk->last = entry;
	walk->count = index + 1;
	walk->next = previous;
	return 1;
}

static __always_inline int walk(void *context)
{
	__u32 zero = 0;
	struct record_buffer *buffer = record_buffer();
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	struct python_settings *set;
	struct python_section *section;
	int more = 1;

	if (!buffer || !walk)
		return 0;
	section = walker_content(buffer);
	set = bpf_map_lookup_elem(&walker_settings, &buffer->walker_settings);
	if (!set)
		return walker_without(context, buffer);
	if (walker_begins(buffer))
		more = begin_walk(buffer, set, walk, &section->head);
#pragma clang loop unroll(disable)
	for (int i = 0; more && i < FRAMES_A_RUN; i++)
		more = step(set, walk, section);
	if (more) {
		walker_again(context, buffer);
		section->head.flags |= CUT;
	}
	section->head.frames = walk->count;
	return walker_done(context, buffer, sizeof(section->head) + walk->count * sizeof(struct python_frame),
			   walk->count);
}

WALKER_PROGRAMS(walk)
