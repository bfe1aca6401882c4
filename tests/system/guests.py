"""What people do with guests, as tests do it: a guest's configuration, its console, and what the toolstack says of it."""
import itertools
import re

GUEST = """
name = "{name}"
kernel = "{kernel}"
ramdisk = "/boot/initrd"
extra = "console=hvc0 quiet hearth.guest=192.168.77.{address}/24"
memory = {memory}
vcpus = {vcpus}
on_crash = "preserve"
{more}
"""

DEVICES = 'disk = ["format=raw,vdev=xvda,access=rw,target=/tmp/disk.img"]\nvif = ["bridge=xenbr0"]'


def configure(dom0, name, memory=128, vcpus=1, address=9, kernel="/boot/vmlinux", more=""):
    """The kernel is unpacked, unless it is said which: that takes the toolstack ten seconds."""
    text = GUEST.format(name=name, kernel=kernel, memory=memory, vcpus=vcpus, address=address, more=more)
    dom0.check(f"cat >/tmp/{name}.cfg <<'END'\n{text}\nEND")
    return f"/tmp/{name}.cfg"


def create(dom0, name, **options):
    """A guest whose console is heard from its first line on."""
    path = configure(dom0, name, **options)
    dom0.check(f"xl create -p {path}", timeout=120)
    listen(dom0, name)
    heard(dom0, name, "guest: up")
    heard(dom0, name, "guest:/# ")


def hear(dom0, name):
    """Hears a guest's console from now on. Straight from the daemon's terminal: xl console takes no input from anything but a terminal of its own."""
    dom0.check(f"tty=$(xenstore-read /local/domain/$(xl domid {name})/console/tty); ln -sf $tty /tmp/{name}.tty; (cat $tty >>/tmp/{name}.out 2>/dev/null &)")


def listen(dom0, name):
    """Lets a paused guest run, and hears its console from there on."""
    dom0.check(f"rm -f /tmp/{name}.out")
    hear(dom0, name)
    dom0.check(f"xl unpause {name}")


def heard(dom0, name, what, seconds=120, since="guest: up"):
    """Waits until a guest's console has said so; what it said since then."""
    status, _ = dom0.run(f"timeout {seconds} sh -c 'until grep -qF \"{what}\" /tmp/{name}.out; do sleep 0.2; done'", timeout=seconds + 30)
    said = dom0.check(f"tr -d '\\r' </tmp/{name}.out | sed -n '/{since}/,$p' | tail -n 100 | sed 's/^/  /'")
    assert status == 0, said
    return said


MARKS = itertools.count(1)


def in_guest(dom0, name, command, seconds=60):
    """The output of a command, typed on a guest's console."""
    number = next(MARKS)
    # The quotes keep what is typed apart from what is printed.
    dom0.check(f"echo 'echo begin\"\"-{number}-; {command}; echo end\"\"-{number}-' >/tmp/{name}.tty")
    return heard(dom0, name, f"end-{number}-", seconds, since=f"begin-{number}-")


def domains(dom0):
    """Name to [number, memory, vCPUs, state] of each domain but Domain 0."""
    lines = [line.split() for line in dom0.check("xl list").splitlines()[1:]]
    return {line[0]: line[1:5] for line in lines if line[0] != "Domain-0"}


def free_pages(dom0, others=0):
    """By the hypervisor's own count, with what it holds ready for small objects, when there is nobody but Domain 0 and so many others. Waits
    for the back ends to let go of what they have mapped."""
    dom0.check(f"timeout 30 sh -c 'until [ $(xl list | wc -l) = {2 + others} ]; do sleep 0.2; done'")
    dom0.check("xl debug-keys m")
    free, held = re.findall(r"memory: (\d+) of \d+ frames free, (\d+) for small objects", dom0.check("xl dmesg | sed 's/^/  /'"))[-1]
    return int(free) + int(held)
