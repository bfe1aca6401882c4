"""Grants within Domain 0, through Linux's own devices for them: what a front end's and a back end's process do."""
import pytest
from conftest import complaints, new_machine

PROGRAM = r"""
cat >/tmp/grants.c <<'END'
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/gntalloc.h>
typedef uint32_t grant_ref_t;
typedef uint16_t domid_t;
typedef uint64_t xen_pfn_t;
#include <xen/gntdev.h>
enum { count = 16, size = 4096 };
#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); exit(1); } } while (0)
static int alloc_device, map_device;
static uint32_t refs[count];

static char *offer(int writable) {
    struct { struct ioctl_gntalloc_alloc_gref a; uint32_t more[count]; } request;
    memset(&request, 0, sizeof request);
    request.a.flags = writable ? GNTALLOC_FLAG_WRITABLE : 0;
    request.a.count = count;
    CHECK(ioctl(alloc_device, IOCTL_GNTALLOC_ALLOC_GREF, &request) == 0);
    memcpy(refs, request.a.gref_ids, sizeof refs);
    char *p = mmap(0, count * size, PROT_READ | PROT_WRITE, MAP_SHARED, alloc_device, request.a.index);
    CHECK(p != MAP_FAILED);
    struct ioctl_gntalloc_dealloc_gref drop = {request.a.index, count}; /* once nobody has it mapped */
    CHECK(ioctl(alloc_device, IOCTL_GNTALLOC_DEALLOC_GREF, &drop) == 0);
    return p;
}
static char *take(int protection) {
    struct { struct ioctl_gntdev_map_grant_ref m; struct ioctl_gntdev_grant_ref more[count]; } request;
    memset(&request, 0, sizeof request);
    request.m.count = count;
    struct ioctl_gntdev_grant_ref *first = request.m.refs;
    for (int i = 0; i < count; i++) first[i].ref = refs[i];
    CHECK(ioctl(map_device, IOCTL_GNTDEV_MAP_GRANT_REF, &request) == 0);
    char *p = mmap(0, count * size, protection, MAP_SHARED, map_device, request.m.index);
    struct ioctl_gntdev_unmap_grant_ref drop = {request.m.index, count, 0};
    if (p == MAP_FAILED) ioctl(map_device, IOCTL_GNTDEV_UNMAP_GRANT_REF, &drop);
    else CHECK(ioctl(map_device, IOCTL_GNTDEV_UNMAP_GRANT_REF, &drop) == 0);
    return p;
}
int main(int argc, char **argv) {
    alloc_device = open("/dev/xen/gntalloc", O_RDWR);
    map_device = open("/dev/xen/gntdev", O_RDWR);
    CHECK(alloc_device >= 0 && map_device >= 0);
    for (int round = 0; round < 20; round++) {
        char *ours = offer(1);
        for (int i = 0; i < count * size; i++) ours[i] = (char)(i * 7 + round);
        char *theirs = take(PROT_READ | PROT_WRITE);
        CHECK(theirs != MAP_FAILED && memcmp(ours, theirs, count * size) == 0);
        memset(theirs + 5 * size, round, size);
        CHECK(ours[5 * size + 17] == round);
        char buffer[size];
        struct gntdev_grant_copy_segment s;
        memset(&s, 0, sizeof s);
        s.flags = 1; /* from a grant */
        s.source.foreign.ref = refs[7];
        s.source.foreign.offset = 100;
        s.dest.virt = buffer + 10;
        s.len = 1000;
        struct ioctl_gntdev_grant_copy copy = {1, &s};
        CHECK(ioctl(map_device, IOCTL_GNTDEV_GRANT_COPY, &copy) == 0 && s.status == 0);
        CHECK(memcmp(buffer + 10, ours + 7 * size + 100, 1000) == 0);
        if (argc > 1) _exit(0); /* with everything mapped */
        CHECK(munmap(theirs, count * size) == 0);
        CHECK(munmap(ours, count * size) == 0);
        ours = offer(0);
        CHECK(take(PROT_READ | PROT_WRITE) == MAP_FAILED);
        strcpy(ours + 3 * size, "to be read");
        theirs = take(PROT_READ);
        CHECK(theirs != MAP_FAILED && strcmp(theirs + 3 * size, "to be read") == 0);
        CHECK(munmap(theirs, count * size) == 0);
        CHECK(munmap(ours, count * size) == 0);
    }
    puts("grants work");
}
END
gcc -O1 -o /tmp/grants /tmp/grants.c
"""


@pytest.fixture(scope="module", params=[1, 2])
def dom0(request):
    if request.param == 1:  # as everywhere
        booted = request.getfixturevalue("toolstack")
        prepare(booted, 1)
        yield booted
        return
    with new_machine("grants 2", cpus=2, memory=1024, dom0_cmdline="grant_table.version=2") as booted:
        prepare(booted.wait_ready(), 2)
        yield booted


def prepare(dom0, version):
    assert f"Grant tables using version {version} layout" in dom0.check("dmesg | grep Grant.tables")
    dom0.check("modprobe xen-gntdev && modprobe xen-gntalloc && udevadm settle")
    dom0.check(PROGRAM)


def test_pages_are_shared_and_given_back(dom0):
    assert "grants work" in dom0.check("/tmp/grants")


def test_processes_that_end_with_pages_mapped(dom0):
    dom0.check("for i in 1 2 3 4 5; do /tmp/grants end || exit 1; done")
    assert "grants work" in dom0.check("taskset -c 0 /tmp/grants & taskset -c 1 /tmp/grants; a=$?; wait $! && exit $a")
    assert complaints(dom0) == ""
