"""As much of gdb's remote protocol as it takes to stop QEMU's machine at an address, to look at it and to change it."""
import re
import socket
import struct
import subprocess

PM_TIMER_PORT = 0x608  # where SeaBIOS puts it on q35
PM_TIMER_WRAP = 1 << 24


def elf_entry(path):
    """The first instruction of an ELF file."""
    with open(path, "rb") as file:
        header = file.read(64)
    return struct.unpack_from("<I", header, 0x18)[0] if header[4] == 1 else struct.unpack_from("<Q", header, 0x18)[0]


class DebuggerError(Exception):
    """The machine ended, or did not get where it was awaited."""


def options(folder):
    """The words of QEMU's command line that make it wait for a Debugger."""
    return ["-S", "-chardev", f"socket,path={folder}/gdb,server=on,wait=off,id=gdb", "-gdb", "chardev:gdb"]


class Debugger:
    def __init__(self, folder):
        self.line = socket.socket(socket.AF_UNIX)
        for attempt in range(100):
            try:
                self.line.connect(folder + "/gdb")
                break
            except OSError:
                if attempt == 99:
                    raise
                subprocess.run(["sleep", "0.1"])
        self.buffer = b""
        # A machine that ran says that it has stopped, before it answers.
        self.send("qSupported")
        while "PacketSize" not in self.receive():
            pass

    def send(self, packet):
        data = packet.encode()
        self.line.sendall(b"$" + data + b"#%02x" % (sum(data) & 255))

    def receive(self, timeout=60):
        self.line.settimeout(timeout)
        while True:
            found = re.search(rb"\$([^#]*)#..", self.buffer, re.S)
            if found:
                self.buffer = self.buffer[found.end() :]
                self.line.sendall(b"+")
                return found[1].decode()
            data = self.line.recv(65536)
            if not data:
                raise DebuggerError("QEMU ended while it was debugged")
            self.buffer += data

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def monitor(self, command):
        self.send("qRcmd," + command.encode().hex())
        text = ""
        while True:
            reply = self.receive()
            if reply == "OK":
                return text
            text += bytes.fromhex(reply.removeprefix("O")).decode(errors="replace")

    def pm_timer(self):
        return int(re.search(r"=\s*(0x[0-9a-f]+)", self.monitor(f"i /w {PM_TIMER_PORT:#x}"))[1], 16) % PM_TIMER_WRAP

    def run_to(self, address, limit=600):
        """Runs until an address is about to be executed; the PM timer's ticks since the call."""
        self.ask(f"Z1,{address:x},1")
        begun, ticks = self.pm_timer(), 0
        for _ in range(limit):
            self.send("c")
            interrupted = False
            try:
                stop = self.receive(timeout=1)
            except (TimeoutError, socket.timeout):
                # The counter wraps after 4.7 G instructions: more than QEMU carries out in a second.
                self.line.sendall(b"\x03")
                interrupted, stop = True, self.receive()
            now = self.pm_timer()
            ticks += (now - begun) % PM_TIMER_WRAP
            begun = now
            if not interrupted or "T05" in stop[:3] and self.at(address):
                self.ask(f"z1,{address:x},1")
                return ticks
        raise DebuggerError(f"address {address:#x} was not reached")

    def at(self, address):
        return self.register("IP") == address

    def register(self, name):
        """A general register by its name without R or E, or a control register by its number."""
        return int(re.search(rf"(?:[RE]|CR){name}\s*=([0-9a-f]+)", self.monitor("info registers"))[1], 16)

    def read(self, address, size):
        """Memory as the processor sees it, ROM included."""
        data = b""
        while len(data) < size:
            part = min(size - len(data), 1024)
            data += bytes.fromhex(self.ask(f"m{address + len(data):x},{part:x}"))
        return data

    def read_physical(self, address, size):
        self.ask("Qqemu.PhyMemMode:1")
        data = self.read(address, size)
        self.ask("Qqemu.PhyMemMode:0")
        return data

    def write(self, address, data):
        for at in range(0, len(data), 1024):
            part = data[at : at + 1024]
            if self.ask(f"M{address + at:x},{len(part):x}:{part.hex()}") != "OK":
                raise DebuggerError(f"no memory to write at {address:#x}")

    def let_go(self):
        """The machine runs on by itself."""
        self.ask("D")
        self.line.close()
