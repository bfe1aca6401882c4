"""Test guests: small kernels that run as Domain 0 and try what a guest must not be able to do."""
import glob
import os

import pytest
from conftest import new_machine

import machine

pytestmark = pytest.mark.hearth_only
NAMES = sorted(os.path.basename(path)[:-4] for path in glob.glob(os.path.join(machine.ROOT, "tests/guests/*.cpp")))


# The last: RAM on both sides of the devices' addresses below 4 GiB.
@pytest.mark.parametrize("name, cpus, memory", [(name, cpus, 512) for name in NAMES for cpus in (1, 2)] + [("page_tables", 1, 5120)])
def test_guest(name, cpus, memory):
    with new_machine(f"guest {name} {cpus} {memory}", kernel=f"{machine.BUILD}/guests/{name}", initrd="", disk="none", net="none",
                     memory=memory, cpus=cpus, extra=["-no-reboot"]) as guest:
        guest.wait_end(timeout=180)
        assert not machine.FELL_OVER.search(guest.text), guest.text[-4000:]
        assert f"GUEST {name}: ok" in guest.text, guest.text[-2000:]
