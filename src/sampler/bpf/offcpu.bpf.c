// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's off-CPU sampler that runs in the kernel: how long threads of a target wait, and
// with which stack. `switched` is called when a CPU switches threads: it notes when a target's thread
// begins to wait, and when the thread gets a CPU again, it decides whether the wait is recorded: always if
// it lasted the `interval` or longer, else with the probability of its length over the interval. A
// recorded wait counts for at least the interval, so that sums are right on average. `returned` is called
// when a system call ends: if its wait is to be recorded, it copies the stack, which is still the same as
// when the wait began. `sweep` is called for each thread: before the profile (sleeping threads begin to
// wait), at the end of each profile (how long sleeping threads have waited so far), and at the end (the
// same, and counting ends).
//
// A wait begins when a thread gives up its CPU; the time until it gets a CPU again is part of it. Not
// here: threads whose CPU was taken away. No program writes anything into a process.
//
// User space sets which waits count (`mode`): all; those for other threads, by the system call; or those for
// a futex, whose time is charged to the thread that ends the wait. For the last one, `locks` sums how long
// threads have waited for each futex. `woken` is called when a thread wakes another one: if that waits for the
// futex that the current system call is about, all the time that threads have waited for it since the last
// wake-up is charged to the current thread. `returned` copies its stack.
// Built by scripts/bpf; read by offcpu.rs.

#include "gather.bpf.h"

// State of a thread that ends (TASK_DEAD, linux/sched.h).
#define DEAD 0x80
#define WAIT_FRAMES 63
#define WAIT_BYTES (WAIT_FRAMES * 8)

// A thread of a target that has waited.
struct wait {
	// When the wait began; 0: the thread does not wait.
	__u64 since;
	// The recorded waits of the current system call: nanoseconds and number; 0: nothing to record.
	__u64 period;
	__u64 count;
	__u32 pid;
	__u32 tid;
	// The futex that the thread waits for; 0: none.
	__u64 lock;
	// In `locks`: when the wait began, and which entry has it.
	__u64 lock_since;
	__u64 lock_created;
	// The futex of the recorded waits.
	__u64 recorded_lock;
	__u64 kernel_bytes;
	char comm[COMM_BYTES];
	__u64 kernel[WAIT_FRAMES];
};

// Set by user space.
struct chance {
	__u64 interval_ns;
	// What `sweep` does with waits.
	__u64 sweeping;
	// Which waits count.
	__u64 mode;
};

// `mode`: all waits; waits for other threads; waits for futexes, charged to the threads that end them.
#define ALL 0
#define BLOCKED 1
#define RELEASED 2

// How long threads have waited for a futex. Units of UNIT nanoseconds since `created`. A number of threads and
// a sum are in one word, so that both change at once.
struct lock {
	// The number of threads that wait, times COUNT_ONE, plus the sum of the times at which they began.
	__u64 waiting;
	// The sum of the waits that have ended, and of what was charged.
	__u64 finished;
	__u64 charged;
	// Nanoseconds; tells an entry from a later one of the same futex.
	__u64 created;
};

#define UNIT_BITS 8
#define COUNT_BITS 48
#define COUNT_ONE (1UL << COUNT_BITS)

struct lock_key {
	__u64 pid;
	__u64 address;
};

// `sweeping`: begins the waits of sleeping threads; reports and ends waits; reports waits, which continue.
#define BEGIN 0
#define END 1
#define SPLIT 2

struct totals {
	__u64 waits;
	__u64 nanoseconds;
	// Waits of threads that found no room in `waits`.
	__u64 unseen;
};

// What `sweep` writes for a thread; `kernel_bytes` of kernel frames follow.
struct swept {
	__u32 pid;
	__u32 tid;
	__u64 turns;
	__u64 kernel_bytes;
	__u64 waited_ns;
	__u64 lock;
	__u64 registers[REGISTER_WORDS];
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chance);
} chance SEC(".maps");

// By the address of the thread's task_struct.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct wait);
} waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct lock_key);
	__type(value, struct lock);
} locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

// Template of a new entry of `waits`; and one for `sweep`, which a switch may interrupt.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wait);
} blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wait);
} swept_blank SEC(".maps");

// A system call: its number (-1: the thread is in the kernel for a fault or an interrupt) and its first
// arguments.
struct call {
	__u64 first;
	__u64 second;
	__s64 number;
};

static __always_inline void read_call(struct call *call, void *registers)
{
#if defined(__TARGET_ARCH_x86)
	// Of struct pt_regs: si, di, orig_ax.
	__u64 words[3] = { 0, 0, -1 };

	bpf_probe_read_kernel(words, sizeof(words), registers + 13 * 8);
	call->second = words[0];
	call->first = words[1];
	call->number = words[2];
#else
	// Of struct pt_regs: x1; orig_x0 and syscallno behind struct user_pt_regs.
	__u64 words[2] = { 0, -1 };

	bpf_probe_read_kernel(words, sizeof(words), registers + 34 * 8);
	bpf_probe_read_kernel(&call->second, sizeof(call->second), registers + 8);
	call->first = words[0];
	call->number = (__s32)words[1];
#endif
}

static __always_inline int in_system_call(void *registers)
{
	struct call call = {};

	read_call(&call, registers);
	return call.number != -1;
}

// Numbers of system calls (asm/unistd.h).
#if defined(__TARGET_ARCH_x86)
#define CALL_FUTEX 202
#define CALL_FCNTL 72
#define CALL_FLOCK 73
#define CALL_SEMOP 65
#define CALL_SEMTIMEDOP 220
#else
#define CALL_FUTEX 98
#define CALL_FCNTL 25
#define CALL_FLOCK 32
#define CALL_SEMOP 193
#define CALL_SEMTIMEDOP 192
#endif
#define CALL_FUTEX_WAITV 449
#define CALL_FUTEX_WAKE 454
#define CALL_FUTEX_WAIT 455
// Operations of futex(2), without flags (linux/futex.h).
#define FUTEX_OPERATION 127
#define OPERATION_WAIT 0
#define OPERATION_LOCK_PI 6
#define OPERATION_WAIT_BITSET 9
#define OPERATION_WAIT_REQUEUE_PI 11
#define OPERATION_LOCK_PI2 13
// Commands of fcntl(2) that wait for a lock (linux/fcntl.h).
#define FCNTL_SETLKW 7
#define FCNTL_OFD_SETLKW 38

// Whether the system call waits for another thread or process: a futex, a semaphore, a file lock. Sets the
// address of the futex, if there is one.
static __always_inline int waits_for_others(const struct call *call, __u64 *lock)
{
	__u64 operation = call->second & FUTEX_OPERATION;

	*lock = 0;
	switch (call->number) {
	case CALL_FUTEX:
		if (operation != OPERATION_WAIT && operation != OPERATION_WAIT_BITSET &&
		    operation != OPERATION_LOCK_PI && operation != OPERATION_LOCK_PI2 &&
		    operation != OPERATION_WAIT_REQUEUE_PI)
			return 0;
		*lock = call->first;
		return 1;
	case CALL_FUTEX_WAIT:
		*lock = call->first;
		return 1;
	case CALL_FUTEX_WAITV:
	case CALL_FLOCK:
	case CALL_SEMOP:
	case CALL_SEMTIMEDOP:
		return 1;
	case CALL_FCNTL:
		return call->second == FCNTL_SETLKW || call->second == FCNTL_OFD_SETLKW;
	}
	return 0;
}

static __always_inline __u64 units_since(const struct lock *lock, __u64 now)
{
	// Another CPU may have created it a moment later.
	return now > lock->created ? (now - lock->created) >> UNIT_BITS : 0;
}

// A thread begins to wait for its futex.
static __always_inline void begin_lock(struct wait *wait, __u64 now)
{
	struct lock_key key = { .pid = wait->pid, .address = wait->lock };
	struct lock *lock = bpf_map_lookup_elem(&locks, &key);
	struct lock fresh = { .created = now };

	wait->lock_created = 0;
	if (!lock) {
		bpf_map_update_elem(&locks, &key, &fresh, BPF_NOEXIST);
		lock = bpf_map_lookup_elem(&locks, &key);
	}
	if (!lock)
		return;
	wait->lock_created = lock->created;
	wait->lock_since = units_since(lock, now);
	__sync_fetch_and_add(&lock->waiting, COUNT_ONE + wait->lock_since);
}

// A thread waits for its futex no longer.
static __always_inline void end_lock(struct wait *wait, __u64 now)
{
	struct lock_key key = { .pid = wait->pid, .address = wait->lock };
	struct lock *lock = bpf_map_lookup_elem(&locks, &key);

	if (!lock || !wait->lock_created || lock->created != wait->lock_created)
		return;
	// In this order: `charge` reads the other way round, and what it misses is charged later.
	__sync_fetch_and_add(&lock->finished, units_since(lock, now) - wait->lock_since);
	__sync_fetch_and_add(&lock->waiting, -(COUNT_ONE + wait->lock_since));
	wait->lock_created = 0;
}

// Removes a wait whose end was not seen: `sweep` began it while the thread was woken.
static __always_inline void undo_lock(struct wait *wait)
{
	struct lock_key key = { .pid = wait->pid, .address = wait->lock };
	struct lock *lock = bpf_map_lookup_elem(&locks, &key);

	if (lock && lock->created == wait->lock_created)
		__sync_fetch_and_add(&lock->waiting, -(COUNT_ONE + wait->lock_since));
	wait->lock_created = 0;
}

// How long threads have waited for a futex that was not charged yet, in nanoseconds; charges it.
static __always_inline __u64 charge(const struct wait *wait, __u64 now)
{
	struct lock_key key = { .pid = wait->pid, .address = wait->lock };
	volatile struct lock *lock = bpf_map_lookup_elem(&locks, &key);
	__u64 finished, waiting, charged, units;
	__s64 due;

	if (!lock || lock->created != wait->lock_created)
		return 0;
	finished = lock->finished;
	waiting = lock->waiting;
	charged = lock->charged;
	units = now > lock->created ? (now - lock->created) >> UNIT_BITS : 0;
	due = finished + (waiting >> COUNT_BITS) * units - (waiting & (COUNT_ONE - 1)) - charged;
	if (due <= 0)
		return 0;
	__sync_fetch_and_add((__u64 *)&lock->charged, due);
	return (__u64)due << UNIT_BITS;
}

// Whether a wait of the thread counts. Sets the futex that it waits for.
static __always_inline int wait_counts(struct task_struct *task, __u64 mode, __u64 *lock)
{
	struct call call = {};

	*lock = 0;
	if (mode == ALL)
		return 1;
	read_call(&call, registers_of(task));
	return waits_for_others(&call, lock) && (mode == BLOCKED || *lock);
}

// The entry of the current thread, which has none yet. 0: there is no room.
static __always_inline struct wait *new_wait(struct task_struct *task, const struct identity *who)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&blank, &zero);
	struct totals *total = bpf_map_lookup_elem(&totals, &zero);

	if (!wait || !total)
		return 0;
	wait->since = 0;
	wait->pid = who->pid;
	wait->tid = who->tid;
	bpf_get_current_comm(wait->comm, COMM_BYTES);
	if (!bpf_map_update_elem(&waits, &key, wait, BPF_ANY))
		return bpf_map_lookup_elem(&waits, &key);
	total->unseen++;
	return 0;
}

// A thread gives up its CPU.
static __always_inline void suspend(struct task_struct *task, int preempted, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct chance *request = bpf_map_lookup_elem(&chance, &zero);
	struct identity who = {};
	unsigned int state;
	__u64 lock;

	if (!request || (!wait && !identify(task, set, &who)))
		return;
	state = state_of(task);
	if (state & DEAD) {
		if (wait)
			bpf_map_delete_elem(&waits, &key);
		return;
	}
	if (preempted || !state || !wait_counts(task, request->mode, &lock)) {
		if (wait && wait->lock_created)
			undo_lock(wait);
		if (wait)
			wait->since = 0;
		return;
	}
	if (!wait)
		wait = new_wait(task, &who);
	if (!wait)
		return;
	if (wait->lock_created)
		undo_lock(wait);
	wait->since = bpf_ktime_get_ns();
	wait->lock = lock;
	if (request->mode == RELEASED)
		begin_lock(wait, wait->since);
}

// Begins the record of recorded waits: all but registers and stack.
static __always_inline struct record_buffer *begin_wait(struct wait *wait, const struct target *target)
{
	struct identity who = { .pid = wait->pid, .tid = wait->tid };
	struct record_buffer *buffer;

	if (target)
		who.target = *target;
	buffer = begin(&who);
	if (buffer) {
		buffer->head.values[VALUE_COUNT] = wait->count;
		buffer->head.values[VALUE_NANOSECONDS] = wait->period;
		buffer->head.lock = wait->recorded_lock;
		__builtin_memcpy(buffer->head.comm, wait->comm, COMM_BYTES);
		buffer->kernel_bytes = wait->kernel_bytes;
		bpf_probe_read_kernel(buffer->kernel, WAIT_BYTES, wait->kernel);
	}
	wait->period = 0;
	wait->count = 0;
	return buffer;
}

// Records the wait of a thread that is not in a system call: without its stack, which is not readable from
// the thread that runs now.
static __always_inline void record_at_once(struct wait *wait, struct task_struct *task, const struct settings *set)
{
	struct record_buffer *buffer = begin_wait(wait, 0);

	if (!buffer)
		return;
	append_kernel_frames(buffer);
	if (copy_registers(buffer->head.registers, task)) {
		buffer->head.flags |= HAS_REGISTERS;
		append_stack(buffer, USER_STACK, buffer->head.registers[WORD_SP], 0, 0, 0);
	}
	submit(set, buffer, 0);
	buffer->busy = 0;
}

// Adds a time to what is recorded when the system call ends: always if it is the interval or longer, else by
// chance. Returns whether it was added.
static __always_inline int add_time(struct wait *wait, __u64 time, const struct chance *request)
{
	__u64 period = time;

	if (time < request->interval_ns) {
		if (((__u64)bpf_get_prandom_u32() * request->interval_ns) >> 32 >= time)
			return 0;
		period = request->interval_ns;
	}
	wait->period += period;
	wait->count += time ? period * ONE / time : ONE;
	return 1;
}

// A thread gets a CPU.
static __always_inline void resume(struct task_struct *task, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct chance *request;
	struct totals *total;
	__u64 waited, now;
	long bytes = 0;

	if (!wait || !wait->since)
		return;
	request = bpf_map_lookup_elem(&chance, &zero);
	total = bpf_map_lookup_elem(&totals, &zero);
	if (!request || !total)
		return;
	now = bpf_ktime_get_ns();
	waited = now - wait->since;
	wait->since = 0;
	total->waits++;
	total->nanoseconds += waited;
	if (request->mode == RELEASED) {
		end_lock(wait, now);
		return;
	}
	if (!add_time(wait, waited, request))
		return;
	wait->recorded_lock = wait->lock;
	if (set->kernel_stacks)
		bytes = bpf_get_task_stack(task, wait->kernel, WAIT_BYTES, 0);
	wait->kernel_bytes = bytes > 0 && bytes <= WAIT_BYTES ? bytes : 0;
	if (!in_system_call(registers_of(task)))
		record_at_once(wait, task, set);
}

// sched_switch(preempted, from, to).
SEC("tp_btf/sched_switch")
int switched(__u64 *context)
{
	int preempted = (int)context[0];
	struct task_struct *from = (struct task_struct *)context[1];
	struct task_struct *to = (struct task_struct *)context[2];
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set)
		return 0;
	suspend(from, preempted, set);
	resume(to, set);
	return 0;
}

// sched_waking(thread): the current thread wakes another one.
SEC("tp_btf/sched_waking")
int woken(__u64 *context)
{
	struct task_struct *task = (struct task_struct *)context[0], *waker = current_task();
	__u64 key = (__u64)task, waker_key = (__u64)waker, time;
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct chance *request = bpf_map_lookup_elem(&chance, &zero);
	struct wait *wait = bpf_map_lookup_elem(&waits, &key), *own;
	struct identity who = {};
	struct call call = {};

	if (!set || !request || !wait || !wait->since || !wait->lock || key == waker_key)
		return 0;
	read_call(&call, registers_of(waker));
	// Not where a timer or a signal ends the wait.
	if ((call.number != CALL_FUTEX && call.number != CALL_FUTEX_WAKE) || call.first != wait->lock)
		return 0;
	time = charge(wait, bpf_ktime_get_ns());
	if (!time || !identify(waker, set, &who))
		return 0;
	own = bpf_map_lookup_elem(&waits, &waker_key);
	if (!own)
		own = new_wait(waker, &who);
	if (!own || !add_time(own, time, request))
		return 0;
	own->recorded_lock = call.first;
	own->kernel_bytes = 0;
	return 0;
}

// sys_exit(registers, result): in the thread whose system call ends.
SEC("raw_tracepoint/sys_exit")
int returned(void *context)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 key = (__u64)task;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct record_buffer *buffer;

	if (!wait || !wait->period)
		return 0;
	buffer = begin_wait(wait, bpf_map_lookup_elem(&targets, &wait->pid));
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

// Begins the wait of a thread that was asleep already.
static __always_inline void seed(struct task_struct *task, __u32 pid, const struct settings *set, __u64 mode)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&swept_blank, &zero);
	unsigned int state = state_of(task);
	__u64 lock;

	// A first thread that has ended while others run keeps its entry; it does not wait.
	if (!wait || !state || state & DEAD || !wait_counts(task, mode, &lock))
		return;
	wait->since = bpf_ktime_get_ns();
	wait->pid = pid;
	wait->tid = number_of(task, set->namespace_inode);
	wait->lock = lock;
	wait->lock_created = 0;
	if (mode == RELEASED)
		begin_lock(wait, wait->since);
	// It may have been woken and have begun a wait since: that one is not counted twice.
	if (bpf_map_update_elem(&waits, &key, wait, BPF_NOEXIST) && mode == RELEASED)
		end_lock(wait, wait->since);
}

SEC("iter/task")
int sweep(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct swept swept = {};
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct chance *request = bpf_map_lookup_elem(&chance, &zero);
	struct wait *kernel = bpf_map_lookup_elem(&swept_blank, &zero);
	struct wait *wait;
	__u64 since, now;
	long bytes = 0;

	if (!task || !set || !request || !kernel)
		return 0;
	swept.pid = number_of(BPF_CORE_READ(task, group_leader), set->namespace_inode);
	if (!swept.pid || !bpf_map_lookup_elem(&targets, &swept.pid))
		return 0;
	wait = bpf_map_lookup_elem(&waits, &key);
	if (request->sweeping == BEGIN) {
		if (!wait)
			seed(task, swept.pid, set, request->mode);
		return 0;
	}
	since = wait ? wait->since : 0;
	if (!since || !wait)
		return 0;
	now = bpf_ktime_get_ns();
	// What is reported here is not recorded again. A thread that has just been woken waits no more.
	wait->since = request->sweeping == SPLIT && state_of(task) ? now : 0;
	swept.tid = wait->tid;
	swept.waited_ns = now - since;
	swept.lock = wait->lock;
	swept.turns = BPF_CORE_READ(task, sched_info.pcount);
	copy_registers(swept.registers, task);
	if (set->kernel_stacks)
		bytes = bpf_get_task_stack(task, kernel->kernel, WAIT_BYTES, 0);
	if (bytes > 0 && bytes <= WAIT_BYTES)
		swept.kernel_bytes = bytes;
	bpf_seq_write(context->meta->seq, &swept, sizeof(swept));
	if (bytes > 0) {
		__u32 size = bytes;

		USE_CHECKED_COPY(size);
		if (size <= WAIT_BYTES)
			bpf_seq_write(context->meta->seq, kernel->kernel, size);
	}
	return 0;
}
