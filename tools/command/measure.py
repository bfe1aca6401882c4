"""./hearth bench: executed instructions, counted by QEMU, under Hearth and under Debian's Xen. See bench/README.md."""
import concurrent.futures
import glob
import gzip
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

import commands
import machine
from machine import BUILD, DOM0

PM_TIMER_HZ = 3579545
PM_TIMER_PORT = 0x608  # where SeaBIOS puts it on q35
PM_TIMER_WRAP = 1 << 24
XEN_PACKAGE = "xen-hypervisor-4.17-amd64"


class Debugger:
    """As much of gdb's remote protocol as it takes to stop at an address and to read the machine's clock."""

    def __init__(self, path):
        self.line = socket.socket(socket.AF_UNIX)
        for attempt in range(100):
            try:
                self.line.connect(path)
                break
            except OSError:
                if attempt == 99:
                    raise
                subprocess.run(["sleep", "0.1"])
        self.buffer = b""
        self.ask("qSupported")

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
                raise commands.Failure("QEMU ended while it was measured")
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
        for _ in range(limit // 5):
            self.send("c")
            interrupted = False
            try:
                stop = self.receive(timeout=5)
            except (TimeoutError, socket.timeout):
                # The counter wraps after 4.7 G instructions: look at it now and then.
                self.line.sendall(b"\x03")
                interrupted, stop = True, self.receive()
            now = self.pm_timer()
            ticks += (now - begun) % PM_TIMER_WRAP
            begun = now
            if not interrupted or "T05" in stop[:3] and self.at(address):
                self.ask(f"z1,{address:x},1")
                return ticks
        raise commands.Failure(f"address {address:#x} was not reached")

    def at(self, address):
        found = re.search(r"[RE]IP=([0-9a-f]+)", self.monitor("info registers"))
        return bool(found) and int(found[1], 16) == address


def elf_entry(path):
    with open(path, "rb") as file:
        header = file.read(64)
    return struct.unpack_from("<I", header, 0x18)[0] if header[4] == 1 else struct.unpack_from("<Q", header, 0x18)[0]


def xen_entry(path):
    """Where a PV kernel begins: its note ENTRY (type 1)."""
    notes = subprocess.run(["llvm-readelf-19", "--notes", path], check=True, capture_output=True, text=True).stdout
    found = re.search(r"Xen\s+0x00000008\s+(?:NT_VERSION \(version\)|Unknown note type: \(0x00000001\))\s+description data: ((?:[0-9a-f]{2} ?){8})", notes)
    if not found:
        raise commands.Failure(f"{path} has no Xen entry note")
    return int.from_bytes(bytes.fromhex(found[1]), "little")


def debian_xen():
    """Debian's own hypervisor, unpacked below build/."""
    folder = os.path.join(BUILD, "xen")
    path = os.path.join(folder, "xen")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        commands.say(f"fetching {XEN_PACKAGE}")
        commands.quietly(["apt-get", "-q", "download", XEN_PACKAGE], "xen-download", f"apt-get download {XEN_PACKAGE}",
                         "Is Debian 12 in apt's sources, and apt-get update done?", cwd=folder)
        package = max(glob.glob(folder + "/*.deb"), key=os.path.getmtime)
        commands.quietly(["dpkg-deb", "-x", package, folder + "/root"], "xen-unpack", "dpkg-deb -x")
        packed = glob.glob(folder + "/root/boot/xen-*.gz")[0]
        shutil.copy(packed, folder + "/xen.gz")
        with gzip.open(packed) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
    return path


def measure_boot(name, image, kernel):
    """Instructions from the hypervisor's first to Domain 0's first."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(BUILD, f"bench/{name}.log")
        command = machine.qemu_command(cpus=1, memory=1024, image=image, kernel=kernel, disk="none", net="none", icount=True,
                                       cpu="max,smap=off,rdrand=off", extra=[
                                           "-serial", f"file:{log}", "-S", "-seed", "1", "-rtc", "base=2020-01-01,clock=vm",
                                           "-chardev", f"socket,path={folder}/gdb,server=on,wait=off,id=gdb", "-gdb", "chardev:gdb"])
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            debugger = Debugger(folder + "/gdb")
            debugger.run_to(elf_entry(image))
            ticks = debugger.run_to(xen_entry(DOM0 + "/vmlinux"))
        finally:
            process.kill()
            process.wait()
    with open(log, errors="replace") as file:
        text = file.read()
    return {
        "instructions": round(ticks * 1e9 / PM_TIMER_HZ),
        # In the hypervisor's own words; under instruction counting a tick of the TSC is an instruction.
        "own_counts": {what: int(count) for what, count in
                       re.findall(r"^\(HEARTH\) (?:\[[^]]*\] )?(.*?) in (\d+) (?:instructions|TSC ticks)", text, re.M)},
        "console_characters": len(text),
        "console_free_memory": re.findall(r"^\((?:XEN|HEARTH)\).*\bfree\b.*", text, re.M | re.I)[:4],
    }


def boot():
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    images = {"hearth": machine.hypervisor(), "xen": debian_xen()}
    kernels = {"stock kernel": DOM0 + "/vmlinuz", "the same, unpacked": DOM0 + "/vmlinux"}
    commands.say("booting each hypervisor twice under instruction counting (about a minute)")
    jobs, results = {}, {who: {} for who in images}
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for who, image in images.items():
            for what, kernel in kernels.items():
                jobs[who, what] = pool.submit(measure_boot, f"boot-{who}-{os.path.basename(kernel)}", image, kernel)
    failures = []
    for (who, what), job in jobs.items():
        try:
            results[who][what] = job.result()
        except (commands.Failure, OSError) as failure:
            results[who][what] = {"error": str(failure)}
            failures.append(f"{who}, {what}: {failure}")
    for who, image in images.items():
        with open(image, "rb") as file:
            content = file.read()
        results[who]["image_bytes"] = len(content)
        results[who]["image_bytes_gzipped"] = len(gzip.compress(content, 9))
        results[who]["loaded_bytes"] = loaded_bytes(image)
    path = os.path.join(BUILD, "bench/boot.json")
    with open(path, "w") as file:
        json.dump({"unit": "executed instructions, 1 CPU, 1 GiB, from the hypervisor's first to Domain 0's first",
                   "image": images["hearth"], "results": results}, file, indent=2)
    report(results, kernels)
    print(f"\n{os.path.relpath(path)}")
    for failure in failures:
        print(f"hearth: not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


def loaded_bytes(image):
    """Memory that the loader fills: the sum of the ELF's loadable segments."""
    text = subprocess.run(["llvm-readelf-19", "-lW", image], check=True, capture_output=True, text=True).stdout
    return sum(int(size, 16) for size in re.findall(r"^\s+LOAD\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", text, re.M))


def report(results, kernels):
    def figure(who, *keys):
        value = results[who]
        for key in keys:
            value = value.get(key, "-")
            if value == "-":
                return value
        return f"{value:,}"

    rows = [(f"boot, {what}", [what, "instructions"]) for what in kernels]
    rows += [("image, bytes", ["image_bytes"]), ("image gzipped, bytes", ["image_bytes_gzipped"]), ("image loaded, bytes", ["loaded_bytes"])]
    print(f"{'':28}{'Hearth':>18}{'Debian Xen':>18}")
    for title, keys in rows:
        print(f"{title:28}{figure('hearth', *keys):>18}{figure('xen', *keys):>18}")
