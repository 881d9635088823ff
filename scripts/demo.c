// The program that scripts/demo profiles: a shop whose workers handle orders. Each order is parsed,
// priced, printed as a page, and signed; the catalogue is searched from its beginning, which is the
// fault that a profile shows.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOOKS = 300, LINES = 20, WORKERS = 2 };

#define NOINLINE __attribute__((noinline))

struct book {
    char title[32];
    unsigned cents;
};

static struct book catalogue[BOOKS];

struct order {
    char title[LINES][32];
    unsigned count[LINES];
};

NOINLINE static void parse_order(const char *text, struct order *order) {
    for (int line = 0; line < LINES; line++) {
        const char *end = strchr(text, '\n');
        const char *comma = memchr(text, ',', (size_t)(end - text));
        memcpy(order->title[line], text, (size_t)(comma - text));
        order->title[line][comma - text] = 0;
        order->count[line] = (unsigned)strtoul(comma + 1, NULL, 10);
        text = end + 1;
    }
}

// Is inlined; a profile names it all the same.
static inline int same_title(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

NOINLINE static const struct book *find_book(const char *title) {
    for (int at = 0; at < BOOKS; at++)
        if (same_title(catalogue[at].title, title))
            return &catalogue[at];
    return NULL;
}

NOINLINE static unsigned price_order(const struct order *order) {
    unsigned sum = 0;
    for (int line = 0; line < LINES; line++) {
        const struct book *book = find_book(order->title[line]);
        sum += book ? book->cents * order->count[line] : 0;
    }
    return sum;
}

NOINLINE static size_t render_page(const struct order *order, unsigned cents, char *page, size_t size) {
    size_t used = 0;
    for (int line = 0; line < LINES; line++)
        used += (size_t)snprintf(page + used, size - used, "<li>%u x %s</li>\n", order->count[line],
                                 order->title[line]);
    return used + (size_t)snprintf(page + used, size - used, "<p>%u.%02u</p>\n", cents / 100, cents % 100);
}

NOINLINE static uint64_t sign_page(const char *page, size_t size) {
    uint64_t sign = 14695981039346656037u;
    for (int round = 0; round < 8; round++)
        for (size_t at = 0; at < size; at++)
            sign = (sign ^ (unsigned char)page[at]) * 1099511628211u;
    return sign;
}

NOINLINE static uint64_t handle_order(const char *text) {
    struct order order;
    char page[4096];
    parse_order(text, &order);
    size_t size = render_page(&order, price_order(&order), page, sizeof page);
    return sign_page(page, size);
}

static void *work(void *name) {
    pthread_setname_np(pthread_self(), name);
    unsigned random = (unsigned)(uintptr_t)name | 1;
    volatile uint64_t keep = 0;
    for (;;) {
        char text[LINES * 40], *end = text;
        for (int line = 0; line < LINES; line++) {
            random = random * 1664525 + 1013904223;
            end += sprintf(end, "A book about %u,%u\n", random % BOOKS, random % 3 + 1);
        }
        keep += handle_order(text);
    }
    return NULL;
}

int main(void) {
    alarm(600);
    for (int at = 0; at < BOOKS; at++) {
        sprintf(catalogue[at].title, "A book about %d", at);
        catalogue[at].cents = 500 + 7 * (unsigned)at % 4000;
    }
    static char *names[WORKERS] = {"orders-1", "orders-2"};
    for (int at = 0; at < WORKERS; at++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, names[at]);
    }
    pause();
}
