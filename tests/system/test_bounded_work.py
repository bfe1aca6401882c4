"""No stretch of hypervisor code is long: between two points at which an interrupt can be taken and another thread be chosen there
are at most BOUND instructions, whatever Domain 0 and its guests do. One CPU, since what a CPU waits for others is not work."""
import os

import pytest
from conftest import LOGS, new_machine

import bounded_work
from guests import DEVICES, create

pytestmark = pytest.mark.hearth_only
BOUND = 50_000
SEEN = os.path.join(LOGS, "bounded-work.txt")
PREPARE = "guests prepare; truncate -s 16M /tmp/disk.img; modprobe xen-gntalloc; modprobe xen-gntdev"
HAS = "timeout 100 sh -c 'until xl list one | grep -q \" %d \"; do sleep 0.5; done'"
# In one boot, one after the other, with the guest `one`.
WORK = [
    "for key in h d e g m q r; do xl debug-keys $key; done; xl dmesg >/dev/null",
    "xl vcpu-list; xl vcpu-pin one all 0; xl vcpu-set one 1; xl sched-credit2 -d one -w 512 -c 50; xl sched-credit2 -d one -c 0; xl info -n >/dev/null",
    f"xl mem-set one 100; {HAS % 100}; xl mem-set one 128; {HAS % 128}",
    "xl save one /root/one.save >/dev/null 2>&1 && xl restore /root/one.save >/dev/null 2>&1",
    "xl migrate -s '' one 'xl migrate-receive' >/dev/null 2>&1",
    "xl pause one; xl unpause one; xl destroy one",
    "cd /tmp && stress-ng --fork 2 --mmap 1 --vm 1 --vm-bytes 64M --switch 1 --timeout 5s 2>&1",
    "seq 300 >/dev/console",
]


def test_every_stretch_is_bounded(capsys):
    with new_machine("bounded work", cpus=1, memory=2048, extra=bounded_work.watching(SEEN)) as dom0:
        dom0.wait_ready(timeout=300)
        dom0.check(PREPARE, timeout=400)
        create(dom0, "one", vcpus=2, address=2, more=DEVICES)
        for command in WORK:
            dom0.check(command, timeout=400)
        dom0.poweroff(timeout=120)
    found = bounded_work.stretches(SEEN)
    with capsys.disabled():
        print("\ninstructions, from where to where, and what was executed on the way\n" + bounded_work.table(found))
    assert found, "the plugin saw nothing"
    assert found[0][0] <= BOUND, bounded_work.table(found)
