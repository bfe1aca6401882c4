"""Memory maps and ACPI tables that are wrong: the machine boots with them, or says in one line why not."""
import re
import struct
import time

import pytest
from conftest import stops
from tamper import RESERVED, USABLE, tampered

pytestmark = pytest.mark.hearth_only

MIB = 1 << 20


def outcome(name, change, cpus=2, seconds=120, **options):
    """"boots", after Domain 0's shell answered, or the hypervisor's reason not to start. A fault or a restart fails."""
    with tampered(f"bad firmware {name}", change, cpus=cpus, memory=512, disk="none", net="none", **options) as dom0:
        end = time.monotonic() + seconds
        while not re.search(r"hearth-shell: ready|cannot start: .*\n", dom0.text):
            assert time.monotonic() < end, dom0.text[-3000:]
            assert "PANIC" not in dom0.text and dom0.text.count("Hearth, a hypervisor") < 2, dom0.text[-3000:]
            assert dom0.pump(1), dom0.text[-3000:]
        assert "PANIC" not in dom0.text
        reasons = re.findall(r"cannot start: (.*)", dom0.text)
        if reasons:
            assert stops(dom0), dom0.text[-3000:]
            return reasons[0]
        dom0.wait_ready()
        assert dom0.check("cat /sys/hypervisor/type") == "xen"
        dom0.check("head -c 64M /dev/urandom | md5sum")
        return "boots"


# Memory maps


def overlaps(firmware):
    """Each region twice, in parts that overlap, backwards, with reserved memory laid over the middle of the usable."""
    old = firmware.memory_map()
    top = max(start + size for start, size, kind in old if kind == USABLE)
    more = [(start + size // 4, size // 2, kind) for start, size, kind in old]
    firmware.set_memory_map((old + more + [(top - 64 * MIB, 16 * MIB, RESERVED), (top - 60 * MIB, 8 * MIB, USABLE)])[::-1])


def holes(firmware):
    """Every sixteenth page of the upper memory is missing, at odd addresses."""
    old = firmware.memory_map()
    top = max(start + size for start, size, kind in old if kind == USABLE)
    firmware.set_memory_map(old + [(top - n * 65536 - 4000, 100, RESERVED) for n in range(1, 200)])


def nonsense(firmware):
    """Empty regions, unknown types, and memory where no processor can reach."""
    firmware.set_memory_map(firmware.memory_map() + [
        (0, 0, USABLE), (64 * MIB, 0, RESERVED), (1 << 52, 1 << 30, USABLE), (1 << 63, 1 << 62, USABLE), ((1 << 64) - 8192, 4096, USABLE),
        (5 << 40, 1 << 40, USABLE), (0xFEE00000, 4096, 0), (0xFEE00000, 4096, 0xFFFFFFFF), (1 << 51, 3, 77)])


def no_low_memory(firmware):
    firmware.set_memory_map([entry for entry in firmware.memory_map() if entry[0] >= MIB])


@pytest.mark.parametrize("change", [overlaps, holes, nonsense, no_low_memory])
def test_boots_with_a_bad_memory_map(change):
    assert outcome(change.__name__, change) == "boots"


def wraps(firmware):
    firmware.set_memory_map(firmware.memory_map() + [((1 << 64) - 4096, 8192, RESERVED)])


def no_entries(firmware):
    firmware.set_raw_memory_map(b"")


def endless_entry(firmware):
    firmware.set_raw_memory_map(struct.pack("<IQQI", 0xFFFFFFFF, 0, 1 << 29, USABLE))


def entry_of_no_size(firmware):
    firmware.set_raw_memory_map(struct.pack("<IQQI", 0, 0, 1 << 29, USABLE))


def thousand_entries(firmware):
    firmware.set_memory_map(firmware.memory_map() + [(0x10000000 + n * 8192, 4096, RESERVED) for n in range(1000)])


def everything_reserved(firmware):
    firmware.set_memory_map([(start, size, RESERVED) for start, size, _ in firmware.memory_map()])


def little(firmware):
    firmware.set_memory_map([(0, 0x9F000, USABLE), (MIB, 7 * MIB, USABLE)])


def module_in_a_hole(firmware):
    start, _ = firmware.modules()[1]
    firmware.set_memory_map(firmware.memory_map() + [(start + 8192, 4096, RESERVED)])


def module_beyond_memory(firmware):
    firmware.set_module(1, 0xF0000000, 0xF0100000)


def module_over_the_hypervisor(firmware):
    firmware.set_module(1, 2 * MIB + 4096, 2 * MIB + 65536)


def modules_over_each_other(firmware):
    start, end = firmware.modules()[0]
    firmware.set_module(1, start + 4096, end)


def module_backwards(firmware):
    start, end = firmware.modules()[1]
    firmware.set_module(1, end, start)


@pytest.mark.parametrize("change, reason", [
    (wraps, "memory map"), (no_entries, "memory map"), (endless_entry, "memory map"), (entry_of_no_size, "memory map"),
    (thousand_entries, "memory map"), (everything_reserved, "memory"), (little, "memory"),
    (module_in_a_hole, "module"), (module_beyond_memory, "module"), (module_over_the_hypervisor, "module"),
    (modules_over_each_other, "module"), (module_backwards, "module")])
def test_says_what_is_wrong_with_the_loaders_information(change, reason):
    said = outcome(change.__name__, change)
    assert reason in said, said


# ACPI


def broken_sum(name):
    return lambda firmware: firmware.break_checksum(firmware.tables()[name])


def broken_root(firmware):
    firmware.break_checksum(firmware.root, 8)


def broken_list(firmware):
    firmware.break_checksum(firmware.list_of_tables())


def length(name, value):
    return lambda firmware: firmware.patch(firmware.tables()[name], 4, struct.pack("<I", value))


def short_entry(firmware):
    """The MADT ends in the middle of its last entry."""
    table = firmware.tables()["APIC"]
    firmware.patch(table, 4, struct.pack("<I", firmware.number(table + 4) - 3))


def madt_entry(offset, data):
    return lambda firmware: firmware.patch(firmware.tables()["APIC"], 44 + offset, data)


def wild_list(firmware):
    """The list names itself, the end of the address space, a device's registers, and nothing."""
    at = firmware.list_of_tables()
    old = firmware.memory.read(at + 36, firmware.number(at + 4) - 36)
    wild = struct.pack("<6I", at, 0xFFFFFFFC, 0xFEE00000, 0, 3, 0xFFFFF000)
    firmware.memory.write(0x60000, firmware.memory.read(at, 36) + wild + old)
    firmware.patch(0x60000, 4, struct.pack("<I", 36 + len(wild) + len(old)))
    firmware.memory.write(firmware.root + 16, struct.pack("<I", 0x60000))
    firmware.memory.write(firmware.root + 8, b"\0")
    firmware.memory.write(firmware.root + 8, bytes([-sum(firmware.memory.read(firmware.root, 20)) & 255]))


def local_apic_in_memory(firmware):
    firmware.patch(firmware.tables()["APIC"], 36, struct.pack("<I", 64 * MIB))


def io_apic_entry(firmware):
    """Where the MADT's first entry for an IO-APIC begins."""
    table = firmware.tables()["APIC"]
    data = firmware.memory.read(table, firmware.number(table + 4))
    at = 44
    while data[at] != 1:
        at += data[at + 1]
    return table, at


def io_apic_in_memory(firmware):
    table, at = io_apic_entry(firmware)
    firmware.patch(table, at + 4, struct.pack("<I", 64 * MIB))


def io_apic_nowhere(firmware):
    table, at = io_apic_entry(firmware)
    firmware.patch(table, at + 4, struct.pack("<I", 0xD0000000))


def io_apic_of_high_numbers(firmware):
    table, at = io_apic_entry(firmware)
    firmware.patch(table, at + 8, struct.pack("<I", 0xFFFFFFF0))


def no_clock_but_dead_ones(firmware):
    """HPET registers in memory, and an ACPI timer at a port where nothing counts."""
    tables = firmware.tables()
    firmware.memory.write(64 * MIB, struct.pack("<Q", 10_000_000 << 32) + bytes(1016))
    firmware.patch(tables["HPET"], 44, struct.pack("<Q", 64 * MIB))
    firmware.patch(tables["FACP"], 76, struct.pack("<I", 0x0CC0))
    firmware.patch(tables["FACP"], 212, struct.pack("<Q", 0x0CC0))


ACPI_CASES = {
    "root pointer, sum": broken_root, "list, sum": broken_list, "list, wild": wild_list,
    **{f"{name}, sum": broken_sum(name) for name in ("APIC", "FACP", "HPET", "MCFG")},
    "MADT, length 0": length("APIC", 0), "MADT, length of a header": length("APIC", 36), "MADT, length of 17 MiB": length("APIC", 17 << 20),
    "MADT, cut": short_entry, "MADT, entry of no length": madt_entry(1, b"\0"), "MADT, long entry": madt_entry(1, b"\xff"),
    "MADT, other CPUs": madt_entry(8 + 3, b"\xc8"), "local APIC in memory": local_apic_in_memory,
    "IO-APIC in memory": io_apic_in_memory, "IO-APIC nowhere": io_apic_nowhere, "IO-APIC of high numbers": io_apic_of_high_numbers,
    "FADT, short": length("FACP", 60), "clocks dead": no_clock_but_dead_ones,
}


@pytest.mark.parametrize("case", ACPI_CASES)
def test_boots_with_bad_tables(case):
    assert outcome(f"ACPI {case}", ACPI_CASES[case]) == "boots"
