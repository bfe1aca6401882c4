"""What people do with guests, as tests do it: a guest's configuration, its console, and what the toolstack says of it."""
import re

from toolstack import KERNEL, hear, heard, in_guest, listen  # noqa: F401 (for those who use this)

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


def configure(dom0, name, memory=128, vcpus=1, address=9, kernel=KERNEL, more=""):
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


def domains(dom0):
    """Name to [number, memory, vCPUs, state] of each domain but Domain 0."""
    lines = [line.split() for line in dom0.check("xl list").splitlines()[1:]]
    return {line[0]: line[1:5] for line in lines if line[0] != "Domain-0"}


def wait_until_gone(dom0, name):
    """The daemon that xl create left behind takes it away."""
    dom0.check(f"timeout 60 sh -c 'while xl domid {name} >/dev/null 2>&1; do sleep 0.2; done'", timeout=90)


def free_pages(dom0, others=0):
    """By the hypervisor's own count, with what it holds ready for small objects and for grants that Domain 0 maps, when there is nobody but Domain 0
    and so many others. Waits for the back ends to let go of what they have mapped."""
    dom0.check(f"timeout 30 sh -c 'until [ $(xl list | wc -l) = {2 + others} ]; do sleep 0.2; done'")
    said = dom0.check("xl debug-keys mg; xl dmesg | grep -E 'frames free|grants of domain 0:' | tail -n 2 | sed 's/^/  /'")
    free, held = re.findall(r"memory: (\d+) of \d+ frames free, (\d+) for small objects", said)[-1]
    handles = re.findall(r"handles in use, which take (\d+) frames", said)[-1]
    return int(free) + int(held) + int(handles)
