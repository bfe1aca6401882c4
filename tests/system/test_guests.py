"""Test guests: small kernels that run as Domain 0 and try what a guest must not be able to do."""
import glob
import os

import pytest
from conftest import new_machine

import machine

pytestmark = pytest.mark.hearth_only
NAMES = sorted(os.path.basename(path)[:-4] for path in glob.glob(os.path.join(machine.ROOT, "tests/guests/*.cpp")))


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_guest(name, cpus):
    with new_machine(f"guest {name} {cpus}", kernel=f"{machine.BUILD}/guests/{name}", initrd="", disk="none", net="none",
                     memory=512, cpus=cpus, extra=["-no-reboot"]) as guest:
        while guest.pump(60):
            pass
        assert "PANIC" not in guest.text
        assert f"GUEST {name}: ok" in guest.text, guest.text[-2000:]
