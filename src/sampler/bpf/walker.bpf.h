// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// For the walkers of languages. A walker reads the frames of a language runtime that are in heap memory, in
// the sampled thread, and adds them to the record as its first section. It is a source file in the folder of
// the language, with two programs that differ in kind only:
//
//	WALKER_SETTINGS(struct mine);
//	static __always_inline int walk(void *context) { ...; return walker_done(context, buffer, bytes, count); }
//	WALKER_PROGRAMS(walk)
//
// The head of the buffer has the thread's registers (if HAS_REGISTERS is set), its number and its thread
// pointer. What the section holds is known to the language's module only.
//
// A walker may hand the sample on to itself (`walker_again`), so that each run is short enough for the
// verifier; all programs of a sample are at most MOST_RUNS.

#include "kernel.bpf.h"
#include "record.bpf.h"

// The kernel allows 32 tail calls, and two are not the walker's own.
#define MOST_RUNS 30

// Settings by number, of which several processes may have the same: forked ones.
#define WALKER_SETTINGS(TYPE)                                                                              \
	struct {                                                                                           \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                                       \
		__uint(max_entries, 4096);                                                                 \
		__type(key, __u32);                                                                        \
		__type(value, TYPE);                                                                       \
	} walker_settings SEC(".maps")

// The programs: one for perf events, one for tracepoints.
#define WALKER_PROGRAMS(WALK)                                                                              \
	SEC("perf_event") int walk_event(void *context)                                                    \
	{                                                                                                  \
		return WALK(context);                                                                      \
	}                                                                                                  \
	SEC("raw_tracepoint/walk") int walk_raw(void *context)                                             \
	{                                                                                                  \
		return WALK(context);                                                                      \
	}                                                                                                  \
	char LICENSE[] SEC("license") = "Dual MIT/GPL";

// Where the section's content goes: LANGUAGE_BYTES.
static __always_inline void *walker_content(struct record_buffer *buffer)
{
	return buffer->sections + sizeof(struct section);
}

// Whether this is the walker's first run for the sample.
static __always_inline int walker_begins(struct record_buffer *buffer)
{
	return buffer->walker_runs == 0;
}

// Runs the walker again. Returns if it has run as often as the kernel allows.
static __always_inline void walker_again(void *context, struct record_buffer *buffer)
{
	__u64 runs = buffer->walker_runs + 1;

	if (runs >= MOST_RUNS)
		return;
	buffer->walker_runs = runs;
	bpf_tail_call(context, &walkers, buffer->walker);
}

// Hands the sample on without a section.
static __always_inline int walker_without(void *context, struct record_buffer *buffer)
{
	bpf_tail_call(context, &walkers, 0);
	buffer->busy = 0;
	return 0;
}

// Makes the content part of the record, and hands the sample on. `frames`: how many it has.
static __always_inline int walker_done(void *context, struct record_buffer *buffer, __u64 bytes, __u64 frames)
{
	struct section *section = (struct section *)buffer->sections;

	section->kind = LANGUAGE_FRAMES;
	section->flags = 0;
	section->detail = buffer->walker;
	section->bytes = bytes;
	section->address = 0;
	buffer->has_language_frames = frames;
	buffer->used = sizeof(*section) + ((bytes + 7) & ~7UL);
	return walker_without(context, buffer);
}
