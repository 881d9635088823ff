// as UID CAPABILITIES COMMAND...   Runs a command as a user (the group likewise) with these ambient
// capabilities: numbers with commas between, or `-` for none.
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int c, char **v) {
    if (c < 4) return 2;
    uid_t u = atoi(v[1]);
    uint64_t m = 0;
    if (strcmp(v[2], "-"))
        for (char *p = strtok(v[2], ","); p; p = strtok(0, ",")) m |= 1ull << atoi(p);
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (setgroups(0, 0) || setresgid(u, u, u) || setresuid(u, u, u)) { perror("set ids"); return 3; }
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{m, m, m}, {m >> 32, m >> 32, m >> 32}};
    if (syscall(SYS_capset, &h, d)) perror("capset");
    for (int i = 0; i < 64; i++)
        if (m >> i & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0)) fprintf(stderr, "cap %d not raised\n", i);
    execv(v[3], v + 3);
    perror(v[3]);
    return 127;
}
