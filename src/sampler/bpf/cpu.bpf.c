// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's CPU sampler that runs in the kernel. A perf event on each CPU calls `sample`, which
// ignores all but the target processes. `thread_created` is called when a target creates a thread. Both hand
// on to the program that completes the record (gather.bpf.h).
// Built by scripts/bpf.

#include "gather.bpf.h"

// struct bpf_perf_event_data (linux/bpf_perf_event.h) with the registers as words.
struct event_context {
	__u64 registers[REGISTER_WORDS];
	__u64 sample_period;
	__u64 addr;
};

static __always_inline int in_user_mode(struct event_context *context)
{
#if defined(__TARGET_ARCH_x86)
	return (context->registers[WORD_CS] & 3) == 3;
#else
	return (context->registers[WORD_PSTATE] & 0xf) == 0;
#endif
}

// Copies the registers of the event that interrupted the thread in user mode into the head.
static __always_inline void take_event_registers(struct event_context *event, struct record_head *head)
{
	// Word by word: the verifier demands constant offsets into the context.
#pragma unroll
	for (int i = 0; i < REGISTER_WORDS; i++)
		head->registers[i] = event->registers[i];
	if (head->registers[WORD_PC] && head->registers[WORD_SP])
		head->flags |= HAS_REGISTERS;
}

SEC("perf_event")
int sample(struct event_context *context)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct record_buffer *buffer;
	struct identity who = {};
	long bytes;

	if (!set || !identify(task, set, &who))
		return 0;
	buffer = begin(&who);
	if (!buffer)
		return 0;
	bpf_get_current_comm(buffer->head.comm, COMM_BYTES);
	buffer->head.values[set->period_kind & (VALUE_KINDS - 1)] = context->sample_period;
	if (in_user_mode(context)) {
		take_event_registers(context, &buffer->head);
	} else {
		take_saved_registers(&buffer->head);
		if (set->kernel_stacks) {
			bytes = bpf_get_stack(context, buffer->kernel, KERNEL_BYTES, 0);
			if (bytes > 0)
				buffer->kernel_bytes = bytes;
		}
	}
	hand_on(context, task, buffer);
	return 0;
}

SEC("perf_event")
int finish_event(struct event_context *context)
{
	return complete();
}

// Flag of clone(2): the new task is a thread of the same process.
#define CLONE_THREAD 0x00010000

// task_newtask(new, clone_flags): called in the thread that creates another, before that can run.
SEC("raw_tracepoint/task_newtask")
int thread_created(struct raw_arguments *context)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct record_buffer *buffer;
	struct identity who = {};

	if (!set || !(context->args[1] & CLONE_THREAD) || !identify(task, set, &who))
		return 0;
	buffer = begin(&who);
	if (!buffer)
		return 0;
	bpf_get_current_comm(buffer->head.comm, COMM_BYTES);
	take_saved_registers(&buffer->head);
	hand_on(context, task, buffer);
	return 0;
}

SEC("raw_tracepoint/finish")
int finish(void *context)
{
	return complete();
}
