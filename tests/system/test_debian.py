"""Debian as a guest: its stock kernel, systemd, a root disk of its own; by the toolstack's own kernel, by pygrub and by PV GRUB."""
import re

import pytest
from conftest import complaints, new_machine
from guests import domains, free_pages, heard, in_guest, listen

SHIPPED = "/etc/xen/debian.cfg"
BOOT_LOADERS = {"pygrub": 'bootloader = "pygrub"', "pvgrub": 'kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"'}
SECOND_DISK = 'disk = ["phy:/dev/disk/by-id/virtio-guestroot{number},xvda,w", "format=raw,vdev=xvdb,access=rw,target=/tmp/{name}.img"]'


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def dom0(request):
    with new_machine(f"debian {request.param}", cpus=request.param, memory=2048, cmdline="dom0_mem=1024M loglvl=all", debian_guests=2) as booted:
        booted.wait_ready()
        booted.check("guests prepare", timeout=120)
        yield booted
        # Nothing can be left but what a failed test has left.
        for name in domains(booted):
            booted.run(f"xl destroy {name}")


def boot(dom0, name, number, loader):
    """Debian from a disk that QEMU attaches, with a file for its second."""
    dom0.check(f"truncate -s 64M /tmp/{name}.img; grep -vE '^(name|memory|vcpus|kernel|ramdisk|extra|disk)' {SHIPPED} >/tmp/{name}.cfg; cat >>/tmp/{name}.cfg <<'END'\n"
               f'name = "{name}"\nmemory = 384\nvcpus = 2\n{SECOND_DISK.format(number=number, name=name)}\n{loader}\nEND\nxl create -p /tmp/{name}.cfg', timeout=300)
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
    return names


def lines(said):
    return [line.strip() for line in said.splitlines()]


def test_boots_from_its_own_disk(dom0, guests):
    for name in guests:
        said = lines(in_guest(dom0, name, "findmnt -no SOURCE,LABEL /; systemctl is-system-running --wait; cat /proc/cmdline /sys/hypervisor/type"))
        assert "/dev/xvda guestroot" in [" ".join(line.split()) for line in said]
        assert "running" in said and "xen" in said, said
        # What its own menu says, and the toolstack does not.
        assert any("root=LABEL=guestroot" in line for line in said) and not dom0.run(f"grep LABEL /tmp/{name}.cfg")[1].strip()


def start_as_shipped(dom0):
    dom0.check(f"xl create -p {SHIPPED}", timeout=120)
    listen(dom0, "debian")
    heard(dom0, "debian", "Welcome to", since="^")
    dom0.check("xl destroy debian")


def test_starts_as_shipped_and_leaves_nothing(dom0, guests):
    for name in guests:
        dom0.check(f"xl shutdown -w {name}; timeout 60 sh -c 'while xl domid {name} >/dev/null 2>&1; do sleep 0.2; done'", timeout=200)
    start_as_shipped(dom0)
    before = free_pages(dom0)
    start_as_shipped(dom0)
    assert free_pages(dom0) == before
    assert complaints(dom0) == ""
    assert not re.search(r"panic|stack trace|lock of rank", dom0.check("xl dmesg | sed 's/^/  /'"))
