// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// Names a kernel address. User space runs `name` once for each address, which the context holds, and reads
// the result in `answer`: what the kernel prints for it, `function` or `function [module]`. The program is
// of the kind for tracepoints because that kind may be run on demand; it is attached to none.
//
// Not here: which addresses, and what the result means (kernel_names.rs). Built by scripts/bpf.

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// A symbol's name (KSYM_NAME_LEN, 512), a module's name and the brackets around it.
#define ANSWER_BYTES 576

struct answer {
	char text[ANSWER_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer);
} answer SEC(".maps");

// The format to print with. User space writes it once and freezes the map: the kernel accepts only a
// format that cannot change any more.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__type(key, __u32);
	__type(value, __u64);
} format SEC(".maps");

struct question {
	__u64 address;
};

// Returns the bytes that the result takes with its NUL, which may be more than fit.
SEC("raw_tracepoint/name")
int name(struct question *question)
{
	__u32 zero = 0;
	struct answer *to = bpf_map_lookup_elem(&answer, &zero);
	const char *how = bpf_map_lookup_elem(&format, &zero);
	__u64 address = question->address;

	if (!to || !how)
		return 0;
	return bpf_snprintf(to->text, ANSWER_BYTES, how, &address, sizeof(address));
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
