"""What Hearth says when it is given something that cannot work: one clear line, then it stops."""
import re
import struct
import time

import pytest
from conftest import new_machine

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


def other_elf():
    """An ELF file that is well formed and is no kernel: one segment of code, no Xen notes."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 124, 124, 4096)
    return header + segment + b"\xf4\xeb\xfd\x90"


def text():
    return b"#!/bin/sh\necho this is not a kernel\n" * 100


def last_words(name, seconds=40, **options):
    """The lines of the hypervisor when nothing more has come for a while."""
    with new_machine(f"refusal {name}", disk="none", net="none", memory=512, **options) as refused:
        end, length, quiet = time.monotonic() + seconds, 0, time.monotonic()
        while time.monotonic() < end and refused.pump(0.5):
            if len(refused.text) != length:
                length, quiet = len(refused.text), time.monotonic()
            if refused.text.count("Hearth, a hypervisor") > 3:
                break
            if length and time.monotonic() - quiet > 6:
                break
        assert "Linux version" not in refused.text
        # A machine that starts over at once is one on which nobody can read the reason.
        assert refused.text.count("Hearth, a hypervisor") == 1, "the machine starts over and over"
        return [line for line in refused.text.splitlines() if line.startswith("(HEARTH)")]


@pytest.mark.parametrize("damage", [truncated, corrupt, other_elf, text])
def test_bad_kernel_is_named(tmp_path, damage):
    path = tmp_path / "kernel"
    path.write_bytes(damage())
    lines = last_words(damage.__name__, kernel=str(path))
    assert lines, "the hypervisor said nothing"
    said = [line for line in lines if re.search(r"kernel|Domain 0|dom0", line, re.I)]
    assert said, lines[-5:]
    assert not any(re.search(r"stack trace|#PF|#GP|#UD|assert", line, re.I) for line in lines), lines[-20:]


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
