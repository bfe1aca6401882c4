"""Boots whose firmware lies: the machine is stopped at the hypervisor's first instruction, and what the firmware and the
boot loader left in memory (multiboot 1 information, ACPI tables) is changed there, for all who read it later."""
import contextlib
import struct
import tempfile

from conftest import new_machine

import debugger
import machine

FREE = 0x50000  # low memory that neither SeaBIOS nor QEMU's loader uses at that time
USABLE, RESERVED = 1, 2


class Firmware:
    """What is in memory when the hypervisor starts."""

    def __init__(self, stopped):
        self.memory = stopped
        self.information = stopped.register("BX")
        self.root = self.root_pointer()

    def number(self, address, form="<I"):
        return struct.unpack(form, self.memory.read(address, struct.calcsize(form)))[0]

    # The boot loader's information

    def memory_map(self):
        """[(start, size, type)] as the loader has it."""
        length, at = struct.unpack("<II", self.memory.read(self.information + 44, 8))
        data, entries = self.memory.read(at, length), []
        while data:
            size, *entry = struct.unpack_from("<IQQI", data)
            entries.append(tuple(entry))
            data = data[size + 4 :]
        return entries

    def set_memory_map(self, entries):
        self.set_raw_memory_map(b"".join(struct.pack("<IQQI", 20, *entry) for entry in entries))

    def set_raw_memory_map(self, data):
        self.memory.write(FREE, data)
        self.memory.write(self.information + 44, struct.pack("<II", len(data), FREE))

    def modules(self):
        """[(start, end)]"""
        count, at = struct.unpack("<II", self.memory.read(self.information + 20, 8))
        return [struct.unpack("<II", self.memory.read(at + 16 * i, 8)) for i in range(count)]

    def set_module(self, number, start, end):
        self.memory.write(self.number(self.information + 24) + 16 * number, struct.pack("<II", start, end))

    # ACPI

    def root_pointer(self):
        area = self.memory.read(0xE0000, 0x20000)
        return 0xE0000 + next(at for at in range(0, len(area), 16) if area[at : at + 8] == b"RSD PTR ")

    def list_of_tables(self):
        return self.number(self.root + 16)

    def tables(self):
        """{signature: address} of what the RSDT lists."""
        at = self.list_of_tables()
        addresses = struct.unpack(f"<{(self.number(at + 4) - 36) // 4}I", self.memory.read(at + 36, self.number(at + 4) - 36))
        return {self.memory.read(address, 4).decode(): address for address in addresses}

    def patch(self, address, offset, data, sums=True):
        """Changes a table at a place; its checksum stays right unless told otherwise."""
        self.memory.write(address + offset, data)
        length = self.number(address + 4)
        if sums and length < 0x10000:
            self.memory.write(address + 9, b"\0")
            self.memory.write(address + 9, bytes([-sum(self.memory.read(address, length)) & 255]))

    def break_checksum(self, address, at=9):
        self.memory.write(address + at, bytes([self.memory.read(address + at, 1)[0] ^ 0x5A]))


@contextlib.contextmanager
def tampered(name, change, **options):
    """A machine that boots with what change(Firmware) made of its firmware."""
    with tempfile.TemporaryDirectory() as folder:
        with new_machine(name, extra=[*debugger.options(folder), "-no-reboot"], **options) as booted:
            stopped = debugger.Debugger(folder)
            stopped.run_to(debugger.elf_entry(machine.hypervisor()))
            change(Firmware(stopped))
            stopped.let_go()
            yield booted
