"""Debian as a guest: its stock kernel, systemd, a root disk of its own; by the toolstack's own kernel, by pygrub and by PV GRUB. Then its disks and its
network at work, each byte looked at, while other guests come and go."""
import re

import pytest
from conftest import complaints, new_machine
from guests import configure, domains, free_pages, heard, in_guest, listen, wait_until_gone

SHIPPED = "/etc/xen/debian.cfg"
ADDRESS = "192.168.77.4"  # of one that starts as its files say
OTHER_ADDRESS = "192.168.77.5"
BOOT_LOADERS = {"pygrub": 'bootloader = "pygrub"', "pvgrub": 'kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"'}
SECOND_DISK = 'disk = ["phy:/dev/disk/by-id/virtio-guestroot{number},xvda,w", "format=raw,vdev=xvdb,access=rw,target=/tmp/{name}.img"]'


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def dom0(request):
    with new_machine(f"debian {request.param}", cpus=request.param, memory=2048, cmdline="dom0_mem=1024M loglvl=all", debian_guests=2, guests=True) as booted:
        booted.wait_ready()
        booted.check("guests prepare", timeout=120)
        booted.unpack_guests()
        yield booted
        # Nothing can be left but what a failed test has left.
        for name in domains(booted):
            booted.run(f"xl destroy {name}")


def vcpus(dom0, number):
    """Two, or three and four where there are so many CPUs."""
    return max(2, dom0.options["cpus"] - number + 1)


def boot(dom0, name, number, loader):
    """Debian from a disk that QEMU attaches, with a file for its second."""
    dom0.check(f"truncate -s 64M /tmp/{name}.img; grep -vE '^(name|memory|vcpus|kernel|ramdisk|extra|disk)' {SHIPPED} >/tmp/{name}.cfg; cat >>/tmp/{name}.cfg <<'END'\n"
               f'name = "{name}"\nmemory = 384\nvcpus = {vcpus(dom0, number)}\n{SECOND_DISK.format(number=number, name=name)}\n{loader}\nEND\nxl create -p /tmp/{name}.cfg', timeout=300)
    listen(dom0, name)


def wait_until_up(dom0, name):
    heard(dom0, name, "root@debian:~#", seconds=400, since="^")
    in_guest(dom0, name, "bind \"set enable-bracketed-paste off\"; dmesg -n 1")


@pytest.fixture(scope="module")
def guests(dom0, slow):
    """One by each boot loader; PV GRUB takes a minute to decompress its kernel."""
    names = [*BOOT_LOADERS] if slow else ["pygrub"]
    for number, name in enumerate(names):
        boot(dom0, name, number + 1, BOOT_LOADERS[name])
    for name in names:
        wait_until_up(dom0, name)
    if slow:
        in_guest(dom0, "pvgrub", f"ip addr flush dev enX0; ip addr add {OTHER_ADDRESS}/24 dev enX0")
    return names


def lines(said):
    return [line.strip() for line in said.splitlines()]


def test_boots_from_its_own_disk(dom0, guests):
    for number, name in enumerate(guests):
        said = lines(in_guest(dom0, name, "nproc; findmnt -no SOURCE,LABEL /; systemctl is-system-running --wait; cat /proc/cmdline /sys/hypervisor/type"))
        assert "/dev/xvda guestroot" in [" ".join(line.split()) for line in said]
        assert "running" in said and "xen" in said and str(vcpus(dom0, number + 1)) in said, said
        # What its own menu says, and the toolstack does not.
        assert any("root=LABEL=guestroot" in line for line in said) and not dom0.run(f"grep LABEL /tmp/{name}.cfg")[1].strip()


# What they do until there is a file /tmp/stop, at least once; then what they have done. Fails as soon as a byte is wrong.
# Streams: blocks with a number and a checksum, and a zero at the end. All paced, so that the toolstack gets its turn on an emulated machine.
WORK = r"""
import hashlib, json, os, socket, struct, subprocess, sys, time
stopped = lambda: os.path.exists("/tmp/stop")
def disk(path):
    total = 0
    while True:
        said = subprocess.run(["fio", "--name=disk", f"--filename={path}", "--size=16M", "--rw=randrw", "--bsrange=4k-64k", "--direct=1", "--ioengine=libaio",
                               "--iodepth=8", "--thinktime=30000", "--thinktime_blocks=8", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64", "--minimal"], capture_output=True, text=True)
        if said.returncode:
            sys.exit(said.stdout + said.stderr)
        total += 16
        if stopped():
            return total << 20
def iperf(address, port):
    total = 0
    while True:
        said = subprocess.run(["iperf3", "-c", address, "-p", port, "-t", "5", "-b", "4M", "-J"], capture_output=True, text=True)
        if said.returncode:
            sys.exit(said.stdout + said.stderr)
        total += sum(part["sum"]["bytes"] for part in json.loads(said.stdout)["intervals"])
        if stopped():
            return total
def send(address, port):
    total, number = 0, 1
    with socket.create_connection((address, int(port)), 120) as line:
        while not stopped() or number < 50:
            block = os.urandom(65536)
            line.sendall(struct.pack("Q", number) + hashlib.sha1(block).digest() + block)
            total, number = total + len(block), number + 1
            time.sleep(0.25)
        line.sendall(struct.pack("Q", 0))
        return total
def receive(port):
    total, expected = 0, 1
    with socket.create_server(("", int(port))) as server, server.accept()[0].makefile("rb") as line:
        while number := struct.unpack("Q", line.read(8))[0]:
            sum, block = line.read(20), line.read(65536)
            if number != expected or hashlib.sha1(block).digest() != sum:
                sys.exit(f"block {number}, expected {expected}, sum {sum.hex()}")
            total, expected = total + len(block), expected + 1
    return total
print("done", globals()[sys.argv[1]](*sys.argv[2:]))
"""
STREAMS = [("pygrub", "Domain-0", 7001), ("Domain-0", "pygrub", 7002), ("pygrub", "pvgrub", 7003), ("pvgrub", "Domain-0", 7004)]
IPERF_PORT = 5202
ADDRESSES = {"Domain-0": "192.168.77.1", "pygrub": ADDRESS, "pvgrub": OTHER_ADDRESS}


def do(dom0, name, command, seconds=180):
    return dom0.check(command, timeout=seconds) if name == "Domain-0" else in_guest(dom0, name, command, seconds)


def begin(dom0, name, job, *words):
    do(dom0, name, f"( (python3 /tmp/work.py {' '.join(map(str, words))}; echo ended) </dev/null >/tmp/{job}.job 2>&1 & )")


def end(dom0, name, job):
    """The bytes that a job has done, none of them wrong."""
    said = do(dom0, name, f"until grep -q ended /tmp/{job}.job; do sleep 0.5; done; cat /tmp/{job}.job", seconds=300)
    assert re.search(r"done \d+", said), f"{name}, {job}: {said}\nDomain 0: {dom0.check('dmesg | tail -n 40')}"
    return int(re.search(r"done (\d+)", said)[1])


SMALL = 'name = "small"\nkernel = "/guests/sleeper"\nmemory = 4'


def come_and_go(dom0, count):
    """Mostly small kernels; a Linux with a network card now and then."""
    linux = configure(dom0, "linux", memory=96, more='vif = ["bridge=xenbr0"]')
    dom0.check(f"cat >/tmp/small.cfg <<'END'\n{SMALL}\nEND")
    for number in range(count):
        dom0.check(f"xl create -q {linux} && xl destroy linux" if number % 20 == 0 else "xl create -q /tmp/small.cfg && xl destroy small", timeout=300)


def test_no_byte_is_lost_while_others_come_and_go(dom0, guests, slow):
    dom0.check(f"cat >/tmp/work.py <<'END'\n{WORK}\nEND\n(cd /tmp; busybox httpd -p 192.168.77.1:80)")
    streams = [stream for stream in STREAMS if {*stream[:2]} <= {"Domain-0", *guests}]
    for name in guests:
        in_guest(dom0, name, "curl -s http://192.168.77.1/work.py >/tmp/work.py", seconds=180)
        begin(dom0, name, "phy", "disk", "/root/data")
        begin(dom0, name, "file", "disk", "/dev/xvdb")
    for source, target, port in streams:
        begin(dom0, target, port, "receive", port)
        do(dom0, target, f"until grep -q :{port:04X} /proc/net/tcp; do sleep 0.1; done")
        begin(dom0, source, port, "send", ADDRESSES[target], port)
    dom0.check(f"iperf3 -s -D -p {IPERF_PORT}")
    begin(dom0, "pygrub", "iperf", "iperf", ADDRESSES["Domain-0"], IPERF_PORT)
    come_and_go(dom0, 200 if slow else 10)
    for name in ["Domain-0", *guests]:
        do(dom0, name, "touch /tmp/stop")
    for source, target, port in streams:
        sent, received = end(dom0, source, port), end(dom0, target, port)
        print(f"{source} to {target}: {received >> 20} MiB")
        assert sent == received
    sent = end(dom0, "pygrub", "iperf")
    print(f"iperf3 pygrub to Domain-0: {sent >> 20} MiB")
    assert sent > 0
    for name in guests:
        for job in ["phy", "file"]:
            print(f"{name}, disk {job}: {end(dom0, name, job) >> 20} MiB written and read")
        # What Domain 0 has in the file is what the guest has in its disk.
        assert dom0.check(f"sync; sha1sum </tmp/{name}.img") in in_guest(dom0, name, "echo 3 >/proc/sys/vm/drop_caches; sha1sum </dev/xvdb")


def test_iperf(dom0, guests, slow):
    """Figures, and that there is traffic both ways."""
    for server in ["Domain-0", *guests]:
        do(dom0, server, "iperf3 -s -D")
    for client, server, options in [("pygrub", "Domain-0", ""), ("pygrub", "Domain-0", "-R"), *([("pygrub", "pvgrub", "")] if slow else [])]:
        said = in_guest(dom0, client, f"iperf3 -c {ADDRESSES[server]} -t {30 if slow else 3} -f m {options} | tail -n 4", seconds=120)
        rate = float(re.search(r"([\d.]+) Mbits/sec +receiver", said)[1])
        print(f"iperf3 {options} {client} to {server}: {rate} Mbit/s")
        assert rate > 0


def start_as_shipped(dom0, until):
    dom0.check(f"xl create -p {SHIPPED}", timeout=120)
    listen(dom0, "debian")
    heard(dom0, "debian", until, since="^")
    dom0.check("xl destroy debian")


def test_starts_as_shipped_and_leaves_nothing(dom0, guests):
    for name in guests:
        dom0.check(f"xl shutdown -w {name}", timeout=200)
        wait_until_gone(dom0, name)
    start_as_shipped(dom0, "Welcome to")
    before = free_pages(dom0)
    start_as_shipped(dom0, "Run /init")
    assert free_pages(dom0) == before
    assert complaints(dom0) == ""
