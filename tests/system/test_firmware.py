"""The ISO, loaded by GRUB from BIOS and from UEFI firmware by multiboot2, then Domain 0 from the disk."""
import os

import pytest
from conftest import LOGS, complaints, new_machine

import commands
import machine


@pytest.fixture(scope="module")
def iso():
    os.makedirs(LOGS, exist_ok=True)
    path = commands.make_iso(os.path.join(LOGS, "test.iso"), machine.default_options(1024), machine.dom0_words("virtio", ""))
    yield path
    os.remove(path)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_iso_boots(iso, firmware):
    with new_machine(f"iso {firmware}", boot=firmware, iso=iso, cpus=2, memory=1024, net="none") as dom0:
        dom0.wait_ready()
        assert dom0.check("cat /sys/hypervisor/type") == "xen"
        assert dom0.check("nproc") == "2"
        assert dom0.check("dd if=/dev/cdrom bs=1 skip=32769 count=5 status=none || dd if=/dev/sr0 bs=1 skip=32769 count=5 status=none") == "CD001"
        assert complaints(dom0) == ""
        assert dom0.poweroff() == 0
