"""The quickest boot: kernel and busybox, no disk."""
from conftest import complaints, new_machine


def test_shell_within_seconds():
    with new_machine("initrd", disk="none", net="none", memory=512, cpus=2) as dom0:
        dom0.wait_ready(timeout=120)
        assert dom0.check("cat /sys/hypervisor/type") == "xen"
        assert dom0.run("exit 7") == (7, "")
        assert dom0.run("seq 2000")[1] == "".join(f"{n}\n" for n in range(1, 2001))
        assert complaints(dom0) == ""
        assert dom0.poweroff() == 0
