"""What Hearth says when it is given something that cannot work: one clear line, then it stops."""
import random
import re
import struct
import subprocess
import time

import pytest
from conftest import new_machine, stops

import machine

pytestmark = pytest.mark.hearth_only


def kernel_file():
    return open(machine.DOM0 + "/vmlinuz", "rb").read()


def truncated():
    return kernel_file()[:100_000]


def corrupt():
    image = bytearray(kernel_file())
    middle = len(image) // 2
    image[middle : middle + 64] = bytes(64)
    return bytes(image)


BASE = 0xFFFFFFFF80000000
ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, VERSION, FEATURES, INIT_P2M, PHYS32_ENTRY = 1, 2, 3, 4, 5, 10, 15, 18
SOUND = {VERSION: b"xen-3.0\0", ENTRY: BASE + 0x100000, VIRT_BASE: BASE, HYPERCALL_PAGE: BASE + 0x101000}


def note(kind, value, name=b"Xen\0"):
    value = struct.pack("<Q", value) if isinstance(value, int) else value
    return struct.pack("<III", len(name), len(value), kind) + name + value + bytes(-len(value) % 4)


def elf(notes, segments=1, at=0x100000, size=0x10000, **header):
    """A kernel of 12 KiB that halts: one segment, or one many times over, and Xen's notes in its first page."""
    content = notes if isinstance(notes, bytes) else b"".join(note(kind, value) for kind, value in notes.items())
    where = 64 + 56 * (segments + 1)
    fields = {"kind": 2, "machine": 62, "entry": 0x100000, "headers_at": 64, "header_size": 56, "count": segments + 1,
              "file_size": 0x2000, "note_offset": where, "note_size": len(content), **header}
    image = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", fields["kind"], fields["machine"], 1, fields["entry"],
                        fields["headers_at"], 0, 0, 64, fields["header_size"], fields["count"], 0, 0, 0)
    image += struct.pack("<IIQQQQQQ", 1, 7, 0x1000, at, at, fields["file_size"], size, 4096) * segments
    image += struct.pack("<IIQQQQQQ", 4, 4, fields["note_offset"], 0, 0, fields["note_size"], 0, 4) + content
    return image.ljust(0x1000, b"\0") + b"\xf4\xeb\xfd\x90".ljust(0x2000, b"\0")


OTHER_KERNELS = {
    "no notes": elf({}),
    "PVH only": elf({VERSION: b"xen-3.0\0", PHYS32_ENTRY: 0x100000}),
    "another hypervisor's notes": elf(note(ENTRY, BASE + 0x100000, b"VMM\0")),
    "another interface": elf({**SOUND, VERSION: b"xen-9.9\0"}),
    "32 bits": elf(SOUND)[:4] + b"\x01" + elf(SOUND)[5:],
    "another machine": elf(SOUND, machine=183),
    "an object file": elf(SOUND, kind=1),
}
ABSURD_HEADERS = {
    "headers outside": elf(SOUND, headers_at=1 << 40),
    "headers at the end of the address space": elf(SOUND, headers_at=(1 << 64) - 56),
    "65535 headers": elf(SOUND, count=65535),
    "headers of no size": elf(SOUND, header_size=0),
    "no segments": elf(SOUND, segments=0),
    "overlapping segments": elf(SOUND, segments=3),
    "longer in the file than in memory": elf(SOUND, file_size=0x20000),
    "beyond the file": elf(SOUND, file_size=0x10000),
    "around the address space": elf(SOUND, at=(1 << 64) - 0x2000),
    "larger than all memory": elf({**SOUND, VIRT_BASE: 0}, size=1 << 44),
    "almost the whole address space": elf({**SOUND, VIRT_BASE: 0, ENTRY: 0x100000, HYPERCALL_PAGE: 0x101000}, size=(1 << 64) - 0x200000),
    "at the top of the address space": elf({**SOUND, VIRT_BASE: 0, ENTRY: (1 << 64) - 0x20000, HYPERCALL_PAGE: (1 << 64) - 0x20000},
                                           at=(1 << 64) - 0x20000),
}
ABSURD_NOTES = {
    "notes beyond the file": elf(SOUND, note_offset=1 << 50),
    "notes of absurd size": elf(SOUND, note_size=1 << 62),
    "a note of 4 GiB": elf(struct.pack("<III", 4, 0xFFFFFFF0, ENTRY) + b"Xen\0"),
    "a name of 4 GiB": elf(struct.pack("<III", 0xFFFFFFFE, 8, ENTRY) + b"Xen\0" + bytes(8)),
    "an entry point of 3 bytes": elf({**SOUND, ENTRY: b"abc"}),
    "an entry point elsewhere": elf({**SOUND, ENTRY: 0x1234}),
    "a hypercall page elsewhere": elf({**SOUND, HYPERCALL_PAGE: BASE - 4096}),
    "a hypercall page that is not a page": elf({**SOUND, HYPERCALL_PAGE: BASE + 0x100004}),
    "the hypervisor's addresses": elf({**SOUND, VIRT_BASE: 0xFFFF800000000000, ENTRY: 0xFFFF800000100000, HYPERCALL_PAGE: 0xFFFF800000101000}),
    "addresses that are none": elf({**SOUND, VIRT_BASE: 1 << 60, ENTRY: (1 << 60) + 0x100000, HYPERCALL_PAGE: (1 << 60) + 0x101000}),
    "addresses that are odd": elf({**SOUND, VIRT_BASE: BASE + 4, ENTRY: BASE + 0x100008}),
    "an offset larger than the kernel": elf({**SOUND, PADDR_OFFSET: 1 << 40}),
    "a P2M in the hypervisor": elf({**SOUND, INIT_P2M: 0xFFFF820000000000}),
    "a P2M at the end of the address space": elf({**SOUND, INIT_P2M: (1 << 64) - 4096}),
    "a P2M at an odd address": elf({**SOUND, INIT_P2M: 12345}),
    "a feature that nobody has": elf({**SOUND, FEATURES: b"!warp_drive\0"}),
}


def text():
    return b"#!/bin/sh\necho this is not a kernel\n" * 100


def last_words(name, seconds=120, **options):
    """The lines of the hypervisor until it has stopped."""
    with new_machine(f"refusal {name}", disk="none", net="none", memory=512, extra=["-no-reboot"], **options) as refused:
        end = time.monotonic() + seconds
        while not re.search(r"cannot start: .*\n|Linux version", refused.text):
            assert time.monotonic() < end and refused.pump(1), refused.text[-3000:]
        assert "Linux version" not in refused.text
        # A machine that starts over at once is one on which nobody can read the reason.
        assert stops(refused), refused.text[-3000:]
        return [line for line in refused.text.splitlines() if line.startswith("(HEARTH)")]


def refused(tmp_path, name, kernel, **options):
    """The reason: the one line, the last, that says that Hearth does not start."""
    if isinstance(kernel, bytes):
        path = tmp_path / "kernel"
        path.write_bytes(kernel)
        kernel = path
    lines = last_words(name, kernel=str(kernel), **options)
    assert not any(re.search(r"PANIC|stack trace|#PF|#GP|#UD|assert", line, re.I) for line in lines), lines[-20:]
    assert [line.startswith("(HEARTH) cannot start: ") for line in lines].count(True) == 1, lines[-5:]
    return re.fullmatch(r"\(HEARTH\) cannot start: (.+)", lines[-1])[1]


@pytest.mark.parametrize("damage, reason", [(truncated, "outside of the file"), (corrupt, "xz|unpack|corrupt|damage"), (text, "neither an ELF file nor")])
def test_bad_kernel_is_named(tmp_path, damage, reason):
    assert re.search(reason, refused(tmp_path, damage.__name__, damage()))


@pytest.mark.parametrize("case", [*OTHER_KERNELS, *ABSURD_HEADERS, *ABSURD_NOTES])
def test_absurd_kernel_is_named(tmp_path, case):
    reason = refused(tmp_path, case, {**OTHER_KERNELS, **ABSURD_HEADERS, **ABSURD_NOTES}[case])
    assert re.search("kernel|ELF|segment|entry point|hypercall page|note|memory", reason), reason


@pytest.mark.parametrize("packed", ["gzip", "xz", "lz4", "zstd"])
def test_damaged_compression_is_named(tmp_path, packed):
    """The kernel's own setup code and header with another payload, whole but for some bytes in the middle."""
    image = bytearray(kernel_file())
    start = (image[0x1F1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
    tool = {"gzip": ["gzip", "-c"], "xz": ["xz", "-c", "--check=crc32"], "lz4": ["lz4", "-l", "-c"], "zstd": ["zstd", "-c"]}[packed]
    # Random words: neither so regular that little is left, nor so irregular that it is copied as it is.
    plain = elf(SOUND) + b"".join(random.Random(1).choices([b"page ", b"frame ", b"port ", b"grant ", b"event "], k=1 << 18))
    payload = bytearray(subprocess.run(tool, input=plain, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    payload[len(payload) // 2 : len(payload) // 2 + 64] = bytes(64)
    payload += b"" if packed == "gzip" else struct.pack("<I", len(plain))
    struct.pack_into("<I", image, 0x24C, len(payload))
    reason = refused(tmp_path, f"damaged {packed}", bytes(image[:start] + payload))
    assert re.search(f"{packed}|unpacks to another size", reason, re.I), reason


@pytest.mark.parametrize("size, reason", [("32M", "more memory than dom0_mem="), ("0", "dom0_mem"), ("4096M", "lower dom0_mem="),
                                          ("9999T", "lower dom0_mem=")])
def test_memory_that_cannot_be_is_named(tmp_path, size, reason):
    assert reason in refused(tmp_path, f"memory {size}", machine.DOM0 + "/vmlinux", cmdline=f"dom0_mem={size}")


def test_missing_kernel_is_named():
    lines = last_words("no kernel", kernel="", initrd="")
    assert any(re.search(r"kernel|module|Domain 0", line, re.I) for line in lines), lines[-5:]


def test_unknown_option_is_named():
    with new_machine("unknown option", disk="none", net="none", memory=512, cmdline="frobnicate=7 loglvl=all") as dom0:
        dom0.wait_for(r"\(HEARTH\).*frobnicate", timeout=60)
        dom0.wait_ready()
        dom0.poweroff()


def test_options_reach_domain_0():
    with new_machine("dom0 options", disk="none", net="none", memory=1024, cmdline="dom0_mem=300M dom0_max_vcpus=1", cpus=2) as dom0:
        dom0.wait_ready()
        assert dom0.check("nproc") == "1"
        assert int(dom0.check("awk '/MemTotal/ {print $2}' /proc/meminfo")) < 300 * 1024
        dom0.poweroff()
