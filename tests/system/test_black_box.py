"""What was logged before a crash is found after the restart."""
import pytest
from conftest import new_machine

pytestmark = pytest.mark.hearth_only
FOUND = r"^\(HEARTH\) the machine restarted without being told to"


def test_log_survives_a_crash_and_a_sudden_reset():
    with new_machine("black box", cpus=2, memory=1024) as dom0:
        dom0.wait_ready()
        assert "restarted without" not in dom0.text
        dom0.check("modprobe xen-privcmd")
        dom0.send("xl debug-keys C\n")
        dom0.wait_for(r"PANIC on CPU \d: somebody asked for it", timeout=60, may_fall_over=True)
        dom0.wait_for(FOUND, timeout=120, may_fall_over=True)
        dom0.wait_ready(timeout=300)
        log = dom0.check("modprobe xen-privcmd; xl dmesg | sed 's/^/  /'")
        before, after = log.split("--- end of that")
        assert "PANIC on CPU" in before and "(reporting)" in before and "Domain 0 starts" in before
        assert "PANIC" not in after and "Domain 0 starts" in after
        # Behind Hearth's back: the chipset's reset register.
        dom0.send("printf '\\006' | dd of=/dev/port bs=1 seek=3321 conv=notrunc 2>/dev/null\n")
        dom0.wait_for(FOUND, timeout=120)
