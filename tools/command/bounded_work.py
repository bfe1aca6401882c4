"""The longest stretches of hypervisor code without a preemption point, as QEMU's plugin tools/emulator/bounded_work.c counts them."""
import bisect
import collections
import os
import subprocess

import commands
from machine import BUILD

IMAGE = os.path.join(BUILD, "hypervisor/hearth.elf64")
OURS = range(0xFFFF800000000000, 0xFFFF880000000000)


def watching(path):
    """Words for QEMU's command line; what is found is appended to the file."""
    if os.path.exists(path):
        os.remove(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    back = Symbols().address("guest_iret")
    return ["-plugin", f"file={commands.plugin('bounded_work')},out={path},return={back:x}"]


class Symbols:
    def __init__(self):
        lines = subprocess.run(["llvm-nm-19", "-C", "--defined-only", IMAGE], capture_output=True, text=True, check=True).stdout
        found = sorted((int(address, 16), name) for address, kind, name in (line.split(" ", 2) for line in lines.splitlines())
                       if kind in "tT")
        self.addresses = [address for address, _ in found]
        self.names = [name.replace("(anonymous namespace)::", "").split("(")[0].replace("hearth::", "") for _, name in found]

    def address(self, name):
        return self.addresses[self.names.index(name)]

    def name(self, address):
        return self.names[bisect.bisect_right(self.addresses, address) - 1] if address in OURS else "a guest"


def stretches(path):
    """(instructions, from, to, what was executed most) of each kind seen, longest first."""
    symbols, longest = Symbols(), {}
    with open(path) as file:
        for line in file:
            length, *addresses = line.split()
            start, end, *samples = (symbols.name(int(address, 16)) for address in addresses)
            most = ", ".join(name for name, _ in collections.Counter(samples).most_common(3))
            if int(length) > longest.get((start, end), (0,))[0]:
                longest[start, end] = (int(length), start, end, most)
    return sorted(longest.values(), reverse=True)


def table(found, limit=12):
    return "\n".join(f"{length:9,}  {start} -> {end}: {most}" for length, start, end, most in found[:limit])
