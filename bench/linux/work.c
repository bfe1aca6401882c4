// What Linux costs: system calls, faults, processes, signals and switches, each timed by the time-stamp counter, which counts
// executed instructions under QEMU's -icount. The first program of a ramdisk; prints a line "WORK name: count" for each, all at
// the end, since a guest's console is work for Domain 0. With the argument "clock" it times nothing but reading the clock.
#define _GNU_SOURCE
#include "time_stamp.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MOST = 4096 };

static void fail(const char *what) {
    perror(what);
    printf("WORK failed\n");
    fflush(stdout);
    for (;;)
        pause();
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// The median of `times` runs, each divided by what one run does so many times.
static void measure(const char *name, void (*run)(void), unsigned times, unsigned divisor) {
    static uint64_t took[MOST];
    run(); // once for what is only there the second time
    for (unsigned i = 0; i < times; i++) {
        uint64_t begun = now();
        run();
        took[i] = now() - begun;
    }
    qsort(took, times, sizeof *took, by_value);
    printf("WORK %s: %llu\n", name, (unsigned long long)(took[times / 2] / divisor));
}

static void get_parent(void) { syscall(SYS_getppid); }

static void read_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
}

static volatile char *map(int protection, unsigned pages) {
    volatile char *mapped = mmap(NULL, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        fail("mmap");
    return mapped;
}

// A page whose neighbours are such that Linux never joins the three to one area, which would cost more than what is timed.
static char *page_apart(void) {
    char *page = (char *)map(PROT_NONE, 3) + PAGE;
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE))
        fail("mprotect");
    *page = 1;
    return page;
}

static volatile char *touched[MOST];
static unsigned touched_count;
static void map_and_touch(void) { *(touched[touched_count++] = map(PROT_READ | PROT_WRITE, 1)) = 1; }
static void unmap_touched(void) {
    while (touched_count > 0)
        munmap((void *)touched[--touched_count], PAGE);
}

static void map_touch_and_unmap(void) {
    volatile char *page = map(PROT_READ | PROT_WRITE, 1);
    *page = 1;
    munmap((void *)page, PAGE);
}

static char *protected_page;
static void protect_twice(void) {
    if (mprotect(protected_page, PAGE, PROT_READ) || mprotect(protected_page, PAGE, PROT_READ | PROT_WRITE))
        fail("mprotect");
}

static char *anonymous;
enum { FAULTS = 64 };
static void fault_anonymous(void) {
    for (unsigned i = 0; i < FAULTS; i++)
        ((volatile char *)anonymous)[i * PAGE] = 1;
    madvise(anonymous, FAULTS * PAGE, MADV_DONTNEED);
}

static int file;
static void fault_file(void) {
    volatile char *mapped = mmap(NULL, FAULTS * PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
        fail("mmap of a file");
    madvise((void *)mapped, FAULTS * PAGE, MADV_RANDOM);
    for (unsigned i = 0; i < FAULTS; i++)
        (void)mapped[i * PAGE];
    munmap((void *)mapped, FAULTS * PAGE);
}

static void on_signal(int number) { (void)number; }
static void signal_oneself(void) { kill(getpid(), SIGUSR1); }

static char *forbidden;
static void on_fault(int number) {
    (void)number;
    mprotect(forbidden, PAGE, PROT_READ | PROT_WRITE);
}
static void fault_protected(void) {
    mprotect(forbidden, PAGE, PROT_READ);
    *(volatile char *)forbidden = 1;
}

static int there[2], back[2];
static void ping(void) {
    char byte = 1;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
        fail("pipe");
}

static void fork_and_exit(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
}
static void fork_and_execute(void) {
    pid_t child = fork();
    if (child == 0) {
        execl("/work", "/work", "exit", NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
}

static void sleep_shortly(void) {
    struct timespec t = {0, 1000};
    nanosleep(&t, NULL);
}

static void read_the_clock_only(void) {
    measure("vDSO clock", read_clock, 1000, 1);
    measure("getppid", get_parent, 1000, 1);
}

static void end(void) {
    printf("WORK done\n");
    fflush(stdout);
    for (;;)
        pause();
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "exit") == 0)
        _exit(0); // what fork_and_execute() starts
    int console = open("/dev/console", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(console, i);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    sleep(2); // what start-up has left to the background
    if (count > 1 && strcmp(arguments[1], "clock") == 0) {
        read_the_clock_only();
        end();
    }
    signal(SIGUSR1, on_signal);
    signal(SIGSEGV, on_fault);
    protected_page = page_apart();
    forbidden = page_apart();
    anonymous = (char *)map(PROT_READ | PROT_WRITE, FAULTS);
    file = open("/file", O_RDWR | O_CREAT, 0600);
    static char block[PAGE];
    for (unsigned i = 0; i < FAULTS; i++)
        if (write(file, block, PAGE) != PAGE)
            fail("/file");
    if (pipe(there) || pipe(back))
        fail("pipe");
    pid_t echo = fork();
    if (echo == 0)
        for (char byte; read(there[0], &byte, 1) == 1;)
            if (write(back[1], &byte, 1) != 1)
                _exit(1);
    measure("getppid", get_parent, 1000, 1);
    measure("vDSO clock", read_clock, 1000, 1);
    measure("mmap, touch", map_and_touch, 500, 1);
    unmap_touched();
    measure("mmap, touch, munmap", map_touch_and_unmap, 500, 1);
    measure("mprotect, twice", protect_twice, 500, 1);
    measure("page fault, anonymous", fault_anonymous, 50, FAULTS);
    measure("page fault, file", fault_file, 50, FAULTS);
    measure("protection fault, caught", fault_protected, 200, 1);
    measure("signal", signal_oneself, 500, 1);
    measure("pipe, there and back", ping, 500, 1);
    measure("nanosleep of 1 us", sleep_shortly, 50, 1);
    measure("fork and exit", fork_and_exit, 200, 1);
    measure("fork and exec", fork_and_execute, 200, 1);
    end();
}
