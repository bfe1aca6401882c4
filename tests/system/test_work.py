"""What people do on a Linux machine, done in Domain 0: one boot, many kinds of work."""
import re
import time

import pytest
from conftest import complaints, new_machine

HELLO = r"""
cat >/tmp/hello.c <<'END'
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static double total;
static void *work(void *argument) { for (int i = 1; i < 1000000; i++) total += 1.0 / i / i; return argument; }
int counter;
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, work, 0);
    pthread_join(thread, 0);
    for (int i = 0; i < 3; i++) counter++;
    printf("%.4f %d\n", total, counter);
    return 0;
}
END
cd /tmp && gcc -g -O0 -pthread -o hello hello.c && ./hello
"""

PACKAGE = r"""
mkdir -p /tmp/package/DEBIAN /tmp/package/usr/local/bin
printf 'Package: hearth-greeting\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: greets\n' \
    >/tmp/package/DEBIAN/control
printf '#!/bin/sh\necho greetings\n' >/tmp/package/usr/local/bin/greet
chmod 755 /tmp/package/usr/local/bin/greet
dpkg-deb -b /tmp/package /tmp/greeting.deb && apt-get install -y /tmp/greeting.deb && greet && apt-get purge -y hearth-greeting
"""

HOG = r"""
cat >/tmp/hog.c <<'END'
#include <stdlib.h>
#include <string.h>
int main(void) { for (;;) { char *block = malloc(16 << 20); if (block) memset(block, 1, 16 << 20); } }
END
gcc -O1 -o /tmp/hog /tmp/hog.c && (echo 1000 >/proc/self/oom_score_adj && exec /tmp/hog)
"""


@pytest.fixture(scope="module")
def dom0():
    with new_machine("work", cpus=2, memory=1024) as booted:
        yield booted.wait_ready()


def clock_offset(dom0):
    """Host's clock less Domain 0's, in seconds: the smallest of several, which is the one that waited least."""
    offsets, rest = [], ""

    def heard(text):
        nonlocal rest  # a piece of text may be one letter
        now = time.time()
        *lines, rest = (rest + text).split("\n")
        offsets.extend(now - float(line.removeprefix("@clock=")) for line in lines if re.fullmatch(r"@clock=\d+\.\d{6}", line))

    dom0.echo = heard
    try:
        dom0.check("for i in $(seq 20); do printf '@clock=%s\n' $EPOCHREALTIME; sleep 0.05; done")
    finally:
        dom0.echo = None
    assert offsets
    return min(offsets)


def test_clock_keeps_the_hosts_pace(dom0, slow):
    seconds = 300 if slow else 20
    begun, before = time.time(), min(clock_offset(dom0) for _ in range(2))
    time.sleep(seconds)
    passed = time.time() - begun
    # What a sample waited on its way makes the offset larger, never smaller: on a busy machine, ask again.
    drift = min(clock_offset(dom0) for _ in range(3)) - before
    print(f"drift: {drift * 1000:.1f} ms in {passed:.0f} s")
    # The firmware's clock counts whole seconds, so nobody can set Domain 0's finer than that.
    assert abs(before) < 2, f"Domain 0's clock was {before:.3f} s off"
    assert abs(drift) < 0.05, f"{drift * 1000:.1f} ms in {passed:.0f} s, {drift / passed * 1e6:.0f} ppm"


def test_monotonic_clock_never_steps_back(dom0):
    dom0.check(r"""cat >/tmp/clock.c <<'END'
#include <stdio.h>
#include <time.h>
int main(void) {
    long last = 0;
    for (int i = 0; i < 300000; i++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        long value = now.tv_sec * 1000000000L + now.tv_nsec;
        if (value < last) { printf("%ld after %ld\n", value, last); return 1; }
        last = value;
    }
    return 0;
}
END
gcc -O1 -o /tmp/clock /tmp/clock.c && for cpu in 0 1 0 1; do taskset -c $cpu /tmp/clock || exit 1; done
(/tmp/clock & /tmp/clock; a=$?; wait $! && exit $a)""")


def test_sleep_lasts_as_long_as_it_should(dom0):
    took = float(dom0.check("a=$EPOCHREALTIME; sleep 2; b=$EPOCHREALTIME; awk \"BEGIN {print $b - $a}\""))
    assert 1.99 < took < 2.5


def test_file_reads_back_as_written(dom0, slow):
    size = 1024 if slow else 128
    dom0.check(f"head -c {size}M /dev/urandom | tee /root/big | sha256sum >/tmp/sum && sync && "
               "echo 3 >/proc/sys/vm/drop_caches && sha256sum </root/big | cmp - /tmp/sum && rm /root/big", timeout=1200)


def test_compiler_and_threads(dom0):
    assert dom0.check(HELLO) == "1.6449 3"


def test_32_bit_program(dom0):
    assert dom0.check("busybox-32bit sh -c 'echo $((6 * 7)); for i in 1 2 3; do busybox-32bit true || exit 1; done'") == "42"
    assert "ELF" in dom0.check("head -c 5 /usr/local/bin/busybox-32bit | od -An -c | tr -d ' \\n'")


LDT = r"""
cat >/tmp/ldt.c <<'END'
#include <asm/ldt.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static int value = 4711;
int main(void) {
    for (unsigned entry = 0; entry < 1024; entry += 511) {
        struct user_desc d = {.entry_number = entry, .base_addr = (unsigned)(unsigned long)&value, .limit = 4095, .seg_32bit = 1};
        if (syscall(SYS_modify_ldt, 1, &d, sizeof d))
            return 1;
        unsigned short selector = entry * 8 + 7;
        int read = 0;
        __asm__ volatile("mov %1, %%gs; movl %%gs:0, %0; xor %%eax, %%eax; mov %%eax, %%gs" : "=r"(read) : "r"(selector) : "eax");
        if (read != value)
            return 2;
    }
    puts("ldt works");
}
END
gcc -no-pie -o /tmp/ldt /tmp/ldt.c && taskset -c 0 /tmp/ldt && taskset -c 1 /tmp/ldt
"""


def test_process_with_a_descriptor_table_of_its_own(dom0):
    assert dom0.check(LDT).count("ldt works") == 2


def test_debugger_steps_and_watches(dom0):
    dom0.check(HELLO)
    output = dom0.check("cd /tmp && gdb -q -batch -ex 'break main' -ex run -ex 'stepi 20' -ex next -ex next -ex 'watch counter' "
                        "-ex continue -ex continue -ex 'delete' -ex continue ./hello 2>&1", timeout=300)
    assert "Hardware watchpoint" in output
    assert "Old value = 0\nNew value = 1" in output and "Old value = 1\nNew value = 2" in output
    assert "exited normally" in output


def test_package_installs_and_goes(dom0):
    assert "\ngreetings\n" in dom0.check(PACKAGE, timeout=300)


def test_stress(dom0, slow):
    seconds = 60 if slow else 10
    output = dom0.check(f"cd /tmp && stress-ng --cpu 1 --vm 1 --vm-bytes 96M --fork 2 --switch 1 --mmap 1 --mmap-bytes 32M "
                        f"--sigsegv 1 --timer 1 --futex 1 --pipe 1 --fault 1 --verify --timeout {seconds}s 2>&1", timeout=seconds + 300)
    assert "successful run completed" in output


@pytest.mark.hearth_only
def test_toolstack_reads_the_hypervisors_log(dom0):
    dom0.check("modprobe xen-privcmd; modprobe xen-evtchn")
    # Indented, since lines that begin like Hearth's own on the console do not count as a command's output.
    assert "(HEARTH) Domain 0:" in dom0.check("xl dmesg | sed 's/^/  /'")
    dom0.check("xl debug-keys m")
    assert "frames free" in dom0.check("xl dmesg | sed 's/^/  /'")


def test_kernel_log_after_all_that(dom0):
    assert complaints(dom0) == ""


def test_fork_bomb_meets_its_limit(dom0):
    dom0.run("timeout -k 1 10 setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "
             "bash -c 'cd /; ulimit -u 200; bomb() { bomb | bomb & }; bomb; sleep 5' 2>/dev/null", timeout=120)
    # One system call, as the user, kills all that the user has: whatever forks faster than pkill looks is caught too.
    status, _ = dom0.run("""for i in $(seq 50); do perl -e '$< = $> = 65534; kill "KILL", -1'; sleep 0.2; """
                         "pgrep -u 65534 >/dev/null || exit 0; done; exit 1", timeout=240)
    assert status == 0
    assert dom0.check("echo alive") == "alive"


def test_exhausted_memory_kills_the_hog_only(dom0):
    # With less memory it is exhausted sooner.
    dom0.check("cd /sys/devices/system/xen_memory/xen_memory0; echo 400000 >target_kb; "
               "timeout 60 sh -c 'until [ $(cat info/current_kb) -le 400000 ]; do sleep 0.1; done'", timeout=90)
    status, output = dom0.run(HOG, timeout=300)
    assert status == 137, output
    assert "Out of memory: Killed process" in dom0.check("dmesg")
    assert dom0.check("echo alive") == "alive"


def test_reboot_starts_again(dom0):
    dom0.send("reboot\n")
    dom0.wait_for(r"\((HEARTH|XEN)\)|Xen version|Hearth", timeout=90)
    dom0.wait_for(r"Linux version", timeout=90)
    dom0.wait_ready()
    assert float(dom0.check("cut -d' ' -f1 /proc/uptime")) < 120
    assert "restarted without being told to" not in dom0.text
    assert dom0.poweroff() == 0
