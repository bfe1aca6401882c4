// Guests that work beside others, well-behaved or not. Run in a guest by its name:
//   compute SECONDS, requests SECONDS: counts what is done in so many seconds of the machine's time, which begin for all at the
//     same moment, and prints "NEIGHBOUR begun=SECOND work=COUNT";
//   spin, forks, memory, disk: never ends.
#define _GNU_SOURCE
#include "time_stamp.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, LARGE = 1 << 20, DISK = 64 << 20, WRITERS = 4, TOGETHER = 2 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// Some thousand instructions of a guest's own.
static void compute(void) {
    for (volatile unsigned i = 0; i < 1000; i++)
        ;
}

static int open_disk(void) {
    int disk = open("/dev/xvda", O_RDWR | O_DIRECT);
    if (disk < 0)
        fail("/dev/xvda");
    return disk;
}

static void read_a_block(void) {
    static _Alignas(BLOCK) char block[BLOCK];
    static uint64_t random = 1;
    static int disk = -1;
    if (disk < 0)
        disk = open_disk();
    random = random * 6364136223846793005 + 1442695040888963407;
    if (pread(disk, block, BLOCK, (random >> 33) % (DISK / BLOCK) * BLOCK) != BLOCK)
        fail("pread");
}

static void count(void (*work)(void), unsigned seconds) {
    work(); // once, for what is only there the second time
    // Who has been started a little later still begins with the others.
    uint64_t const begun = (now() / SECOND + 1 + TOGETHER) / TOGETHER * TOGETHER * SECOND;
    uint64_t done = 0;
    while (now() < begun)
        work();
    for (uint64_t const end = begun + (uint64_t)seconds * SECOND; now() < end; done++)
        work();
    printf("NEIGHBOUR begun=%llu work=%llu\n", (unsigned long long)(begun / SECOND), (unsigned long long)done);
}

static void spin(void) {
    for (;;)
        compute();
}

static void fork_for_ever(void) {
    for (;;)
        fork();
}

// Whoever has taken all is ended by the kernel, and another one begins.
static void take_all_memory(void) {
    for (;;) {
        if (fork() == 0)
            for (;;) {
                char *piece = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (piece == MAP_FAILED)
                    _exit(1);
                memset(piece, 1, LARGE);
            }
        wait(NULL);
    }
}

static void write_for_ever(void) {
    for (int writer = 1; writer < WRITERS && fork() != 0; writer++)
        ;
    int disk = open_disk();
    char *piece = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (off_t place = 0;; place = (place + LARGE) % DISK)
        if (pwrite(disk, piece, LARGE, place) != LARGE)
            fail("pwrite");
}

int main(int words, char **word) {
    static const struct {
        const char *name;
        void (*work)(void);
        bool counted;
    } kinds[] = {{"compute", compute, true},        {"requests", read_a_block, true},     {"spin", spin, false},
                 {"forks", fork_for_ever, false}, {"memory", take_all_memory, false}, {"disk", write_for_ever, false}};
    for (unsigned i = 0; words > 1 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(word[1], kinds[i].name) == 0) {
            if (kinds[i].counted)
                count(kinds[i].work, words > 2 ? (unsigned)atoi(word[2]) : 1);
            else
                kinds[i].work();
            return 0;
        }
    return 1;
}
