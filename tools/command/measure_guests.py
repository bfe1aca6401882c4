"""./hearth bench create: executed instructions of what the toolstack does with guests, under Hearth and under Debian's Xen.
See bench/README.md."""
import re
import statistics

import commands
import machine
import measure
import toolstack

# Under instruction counting, Linux's clock counts instructions. Says how many its processes executed while a command ran: the time that its
# one CPU was idle is left out, since virtual time jumps while the machine waits for a disk.
COUNT = r"""
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
static unsigned long long executed(void) {
    unsigned long long ns = 0;
    usleep(1000); /* what this process has executed counts from its next turn on */
    FILE* file = fopen("/proc/schedstat", "r");
    fscanf(file, "version %*u timestamp %*u cpu0 %*u %*u %*u %*u %*u %*u %llu", &ns);
    fclose(file);
    return ns;
}
int main(int count, char** words) {
    (void)count;
    int status;
    unsigned long long const before = executed();
    if (fork() == 0) {
        freopen("/dev/null", "w", stdout);
        execvp(words[1], words + 1);
        _exit(127);
    }
    wait(&status);
    printf("counted %llu\n", executed() - before);
    return status != 0;
}
"""
# Says how many pages are free, and how many all domains have.
PAGES = r"""
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
struct call { uint64_t number, argument[5]; };
struct domain_info { /* public/domctl.h, xen_domctl_getdomaininfo */
    uint16_t domain;
    uint32_t flags;
    uint64_t total_pages, others[5], cpu_time;
    uint8_t more[48];
};
_Static_assert(sizeof(struct domain_info) == 112, "as the interface has it");
static struct { uint32_t command, version; uint64_t body[16]; } request; /* public/sysctl.h */
static int ask(int file, uint32_t command) {
    struct call call = {35, {(uint64_t)&request}};
    request.command = command, request.version = 0x15;
    return ioctl(file, _IOC(_IOC_NONE, 'P', 0, sizeof call), &call);
}
static struct domain_info domains[1024];
int main(void) {
    int const file = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    memset(domains, 1, sizeof domains); /* a page that is not there cannot be written to */
    if (ask(file, 3) != 0)
        return 1;
    uint64_t const free = request.body[6];
    memset(request.body, 0, sizeof request.body);
    request.body[0] = 1024ull << 32; /* from the first on, so many */
    request.body[1] = (uint64_t)domains;
    if (ask(file, 6) != 0)
        return 1;
    uint64_t owned = 0;
    for (uint64_t i = 0; i < (uint32_t)request.body[2]; ++i)
        owned += domains[i].total_pages;
    printf("pages %llu %llu\n", (unsigned long long)free, (unsigned long long)owned);
    return 0;
}
"""
GOAL_KIB = 20
RESTING = 32  # guests that are there at once
STACK_KIB = {"hearth": 16, "xen": 0}  # each vCPU has one, or each CPU
SMALL = 'name = "small"\nkernel = "/guests/sleeper"\nmemory = 4\n'
DEBIAN = 'name = "debian"\nkernel = "/boot/vmlinuz"\nramdisk = "/boot/initrd"\nextra = "quiet hearth.guest=192.168.77.9/24"\nmemory = 128\n'
# Until the guest can be suspended, and then as long again as its ramdisk takes: with sleep=off, waiting costs what the guest executes.
SETTLE = "until [ \"$(xenstore-read /local/domain/$(xl domid debian)/control/feature-suspend 2>/dev/null)\" = 1 ]; do sleep 1; done; sleep 20"
ROUNDS = [  # how often, and the commands of a round: its title, or None for one that is not counted
    (7, [("4 MiB: create", "xl create -e -q /tmp/small.cfg"), (None, "sleep 1"), ("4 MiB: list", "xl list"), ("4 MiB: pause", "xl pause small"),
         ("4 MiB: unpause", "xl unpause small"), ("4 MiB: destroy", "xl destroy small"), (None, "sleep 1")]),
    (3, [("128 MiB Debian: create", "xl create -e -q /tmp/debian.cfg"), (None, SETTLE), ("128 MiB Debian: save", "xl save debian /tmp/save"),
         ("128 MiB Debian: restore", "xl restore /tmp/save"), (None, "sleep 10"), ("128 MiB Debian: destroy", "xl destroy debian"),
         (None, "sleep 1")]),
]


def kept_at_rest(dom0, name):
    """KiB that the hypervisor keeps for a guest that sleeps, beside the guest's own memory and its vCPU's stack."""
    def given_away():
        free, owned = map(int, re.search(r"pages (\d+) (\d+)", dom0.check("/tmp/pages")).groups())
        return free + owned

    create = "xl create -e -q /tmp/small.cfg \"name='rest$n'\" || exit 1"
    dom0.check(f"n=0; {create}")  # what is kept for the next time is there by now
    before = given_away()
    dom0.check(f"for n in $(seq {RESTING}); do {create}; done", timeout=600)
    kept = (before - given_away()) * 4 / RESTING - STACK_KIB[name]
    dom0.check(f"for n in $(seq 0 {RESTING}); do xl destroy rest$n || exit 1; done; sleep 1", timeout=600)
    return kept


def measure_guests(name, image):
    """Title to the counts of each round, and what a guest at rest costs in KiB."""
    counts = {}
    with toolstack.counting_domain0(f"create-{name}", image) as dom0:
        dom0.check(f"cat >/tmp/count.c <<'END'\n{COUNT}\nEND\ngcc -O1 -o /tmp/count /tmp/count.c", timeout=300)
        for config, text in [("small", SMALL), ("debian", DEBIAN)]:
            dom0.check(f"cat >/tmp/{config}.cfg <<'END'\n{text}\nEND")
        dom0.check(f"cat >/tmp/pages.c <<'END'\n{PAGES}\nEND\ngcc -O1 -o /tmp/pages /tmp/pages.c", timeout=300)
        kept = kept_at_rest(dom0, name)
        for rounds, steps in ROUNDS:
            for _ in range(rounds):
                for title, command in steps:
                    said = dom0.check(f"/tmp/count {command} 2>&1" if title else command, timeout=600)
                    if title:
                        counts.setdefault(title, []).append(int(re.search(r"counted (\d+)", said)[1]))
    return counts, kept


def create():
    commands.say("guests come and go on each hypervisor, under instruction counting (some minutes)")
    both = measure.on_each(measure_guests)
    results = {who: counts for who, (counts, _) in both.items()}
    kept = {who: kib for who, (_, kib) in both.items()}
    print(f"{'million instructions, median':32}{'Hearth':>12}{'Debian Xen':>14}{'ratio':>8}")
    for title, counts in results["hearth"].items():
        hearth, xen = statistics.median(counts), statistics.median(results["xen"][title])
        print(f"{title:32}{hearth / 1e6:12,.2f}{xen / 1e6:14,.2f}{hearth / xen:8.2f}")
    print(f"{'KiB for a guest at rest':32}{kept['hearth']:12,.1f}{kept['xen']:14,.1f}{kept['hearth'] / kept['xen']:8.2f}"
          f"{'' if kept['hearth'] <= GOAL_KIB else f'  above the goal of {GOAL_KIB}'}")
    measure.keep("create", {"unit": "executed instructions, 1 CPU", "image": machine.hypervisor(), "results": results, "KiB kept for a guest at rest": kept})
    return 0
