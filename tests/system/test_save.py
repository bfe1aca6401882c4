"""Guests that are saved to a file and restored from it, by Debian's unmodified toolstack; and files that are not what was saved."""
import re

import pytest
from conftest import complaints
from guests import DEVICES, create, domains, free_pages, in_guest, listen, wait_until_gone


@pytest.fixture(scope="module")
def dom0(toolstack):
    return toolstack


def restore(dom0, name, path):
    dom0.check(f"xl restore -p {path} 2>&1", timeout=120)
    listen(dom0, name)


CLOCK = "seconds: (\\d+) ([\\d.]+) "
# The pings come when the network card has been set up anew.
LOOK = ('echo "seconds: $(date +%s) $(cat /proc/uptime)"; echo "vcpus: $(nproc)"; sort -nc /tmp/ticks && echo in order; '
        "sha1sum </tmp/data; dd if=/dev/xvda bs=1M count=1 iflag=direct 2>/dev/null | sha1sum; "
        "until ping -c 1 -W 1 192.168.77.1 >/dev/null; do :; done; ping -c 2 192.168.77.1; "
        'dmesg | grep -E "WARNING|BUG|stalls? on|Cannot|Call Trace"')


def look(dom0, name):
    """What a guest finds after whatever was done to it: its clocks, and that its memory, disk and network are all right."""
    said = in_guest(dom0, name, LOOK, seconds=90)
    assert "vcpus: 2" in said and "in order" in said and " 0% packet loss" in said, said
    assert not re.search(r"WARNING|BUG|stalls? on|Cannot|Call Trace", said), said
    return [float(number) for number in re.search(CLOCK, said).groups()], re.findall(r"\b[0-9a-f]{40}\b", said)


def test_saved_guest_goes_on(dom0):
    create(dom0, "goes-on", vcpus=2, address=7, more=DEVICES)
    # Two programs that note the time for as long as the guest lives.
    in_guest(dom0, "goes-on", "mount -t tmpfs none /tmp; dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null; "
             "dd if=/tmp/data of=/dev/xvda bs=1M oflag=direct 2>/dev/null; touch /tmp/ticks; "
             "(while cat /proc/uptime; do sleep 0.2; done >>/tmp/ticks) & (while :; do usleep 1000; done) & true")
    before, sums = look(dom0, "goes-on")
    for command in ["xl save", "xl save -c", "xl save"]:
        dom0.check(f"{command} goes-on /tmp/goes-on.save 2>&1", timeout=120)
        if command == "xl save":
            assert domains(dom0) == {}
            restore(dom0, "goes-on", "/tmp/goes-on.save")
        after, sums_after = look(dom0, "goes-on")
        assert after[0] >= before[0] and after[1] > before[1]
        assert sums_after == sums
        assert " 0% packet loss" in dom0.check("ping -c 2 192.168.77.7")
        before = after
    dom0.check("xl shutdown -w goes-on", timeout=120)
    wait_until_gone(dom0, "goes-on")


# In Domain 0: writes over a few bytes of the first record of a kind, or of the file itself, and prints what was there.
# The file: xl's header and JSON, libxl's records, and among them libxc's stream, which begins with a marker, "XENF" and a
# header of 24 + 16 bytes. (docs/specs/libxc-migration-stream.pandoc of Xen)
ALTER = r"""
import struct, sys
path, kind, offset, new = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4])
with open(path, "r+b") as file:
    at = 0
    if kind >= 0:
        at = file.read(1 << 20).index(struct.pack(">QI", (1 << 64) - 1, 0x58454e46)) + 24 + 16
        while True:
            file.seek(at)
            found, length = struct.unpack("<II", file.read(8))
            at += 8
            if found == kind:
                break
            at += (length + 7) // 8 * 8
    file.seek(at + offset)
    old = file.read(len(new))
    file.seek(at + offset)
    file.write(new)
    print(old.hex())
"""
FILE, PAGE_DATA, P2M_FRAMES, VCPU_BASIC, VCPU_XSAVE = -1, 1, 3, 4, 6
CONTEXT = 8  # of a vCPU's record: struct vcpu_guest_context (public/arch-x86/xen.h)
REGISTERS, GDT_FRAMES, CONTROL, DEBUG, CALLBACK = (CONTEXT + n for n in (520, 4832, 4984, 5048, 5112))
NOT_CANONICAL = "0000000000000080"
ALTERATIONS = {
    "not a saved guest": (FILE, 0, "00" * 8),
    "frames beyond reason": (P2M_FRAMES, 4, "ffffffff"),
    "more pages than there are": (PAGE_DATA, 0, "ffffffff"),
    "data that pass for pinned tables": (PAGE_DATA, 8, "".join((n | 12 << 60).to_bytes(8, "little").hex() for n in range(16))),
    "instruction pointer that cannot be": (VCPU_BASIC, REGISTERS + 128, NOT_CANONICAL),
    "address space that is none": (VCPU_BASIC, CONTROL + 24, "0010000000000000"),
    "breakpoint in the hypervisor": (VCPU_BASIC, DEBUG, "000000008080ffff"),
    "callback that cannot be": (VCPU_BASIC, CALLBACK, NOT_CANONICAL),
    "descriptor table that is none": (VCPU_BASIC, GDT_FRAMES, "0100000000000000"),
    "processor state that cannot be turned on": (VCPU_XSAVE, 8, "ff" * 8),
    "processor state that cannot be": (VCPU_XSAVE, 24 + 512, "ff" * 8),
}


def refused(dom0, path):
    """xl says no, in words, and nothing is left."""
    status, said = dom0.run(f"xl restore -p {path} 2>&1 | tr '\\r' '\\n' | grep -v Frames; exit ${{PIPESTATUS[0]}}", timeout=120)
    assert status != 0 and re.search("error|fail|magic", said, re.I), said
    assert "saved" not in domains(dom0)


@pytest.fixture(scope="module")
def saved(dom0):
    create(dom0, "saved", memory=96)
    dom0.check("xl save saved /tmp/saved.save 2>&1", timeout=120)
    dom0.check(f"cat >/tmp/alter.py <<'END'\n{ALTER}\nEND")
    return "/tmp/saved.save"


def test_altered_files_are_refused_and_leave_nothing(dom0, saved):
    before = None
    for what, (kind, offset, new) in ALTERATIONS.items():
        old = dom0.check(f"python3 /tmp/alter.py {saved} {kind} {offset} {new}")
        try:
            refused(dom0, saved)
        except AssertionError as failure:
            raise AssertionError(what) from failure
        dom0.check(f"python3 /tmp/alter.py {saved} {kind} {offset} {old}")
        # After the first one, what Hearth keeps for the next time is there.
        before = before or free_pages(dom0)
    restore(dom0, "saved", saved)
    assert "up" in in_guest(dom0, "saved", "uptime")
    dom0.check("xl destroy saved")
    assert free_pages(dom0) == before


def test_cut_files_are_refused_and_leave_nothing(dom0, saved):
    for size in [0, 30, 200, 4000, "1M", "40M"]:
        dom0.check(f"head -c {size} {saved} >/tmp/cut.save")
        refused(dom0, "/tmp/cut.save")
    before = free_pages(dom0)
    dom0.check(f"truncate -s -700 {saved}")
    refused(dom0, saved)
    assert free_pages(dom0) == before


def test_nobody_has_anything_to_complain_of(dom0):
    assert complaints(dom0) == ""
