"""Domain 0 on machines of different shape: each boots once, answers a handful of questions and powers off."""
import hashlib
import os
import re

import machine
import pytest
from conftest import complaints, new_machine
from web import serving

DRIVERS = {"virtio": "virtio_blk", "ahci": "ahci", "nvme": "nvme"}
NAMES = {"virtio": re.compile("vd[a-z]"), "ahci": re.compile("sd[a-z]"), "nvme": re.compile(r"nvme\d+n1")}
SHAPES = [
    pytest.param(dict(cpus=1, memory=512, disk="virtio", net="virtio"), id="1cpu-512M-virtio-virtio"),
    pytest.param(dict(cpus=2, memory=2048, disk="ahci", net="e1000"), id="2cpu-2G-ahci-e1000"),
    pytest.param(dict(cpus=4, memory=1024, disk="nvme", net="virtio"), id="4cpu-1G-nvme-virtio"),
    pytest.param(dict(cpus=8, memory=1536, disk="virtio", net="none"), id="8cpu-1536M-virtio-none"),
    pytest.param(dict(cpus=2, memory=16384, disk="virtio", net="none"), id="2cpu-16G", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=SHAPES)
def dom0(request):
    with new_machine(f"machine {request.node.name} {request.param}", kernel=machine.DOM0 + "/vmlinuz", **request.param) as booted:
        yield booted.wait_ready()


def test_every_cpu_is_there(dom0):
    assert int(dom0.check("nproc")) == dom0.options["cpus"]
    # Each runs something: a shell bound to it counts.
    dom0.check("for cpu in $(seq 0 $(($(nproc) - 1))); do taskset -c $cpu sh -c 'i=0; while [ $i -lt 500 ]; "
               "do i=$((i + 1)); done' || exit 1; done")


def test_linux_sees_xen(dom0):
    assert dom0.check("cat /sys/hypervisor/type") == "xen"
    # The second version is for memory above 16 TiB. Its block front end gives back grants that the back end still uses.
    assert "version 1 layout" in dom0.check("dmesg | grep 'Grant tables'")
    # Its driver for machine checks has been told what it asks.
    assert "/dev/mcelog registered by Xen" in dom0.check("dmesg | grep xen_mcelog")
    assert "control_d" in dom0.check("mount -t xenfs none /proc/xen; cat /proc/xen/capabilities")


def test_memory_is_what_was_asked_for(dom0):
    asked = int(re.search(r"dom0_mem=(\d+)M", " ".join(dom0.process.args))[1])
    seen = int(dom0.check("awk '/MemTotal/ {print $2}' /proc/meminfo")) // 1024
    assert asked * 0.75 - 64 < seen <= asked  # the kernel keeps some to itself


def test_root_is_on_the_disk(dom0):
    device = os.path.basename(dom0.check("findmnt -no SOURCE /"))
    path = dom0.check(f"readlink -f /sys/class/block/{device}")
    assert NAMES[dom0.options["disk"]].fullmatch(device) and DRIVERS[dom0.options["disk"]] in dom0.check(
        f"at={path}; while [ $at != / ]; do readlink -f $at/driver; at=$(dirname $at); done | sed 's,.*/,,'").split()
    dom0.check("dd if=/dev/urandom of=/root/block bs=1M count=8 status=none && sync && "
               "a=$(sha256sum </root/block) && echo 3 >/proc/sys/vm/drop_caches && b=$(sha256sum </root/block) && "
               "[ \"$a\" = \"$b\" ]")


def test_network_carries_data_both_ways(dom0):
    if dom0.options["net"] == "none":
        pytest.skip("this machine has no network")
    dom0.check("for i in $(seq 150); do ip -4 route | grep -q ^default && exit 0; sleep 0.2; done; ip a; exit 1")
    dom0.check("ping -c 3 -i 0.2 -w 20 10.0.2.2")
    content = os.urandom(4 << 20)
    with serving(content) as (port, received):
        url = f"http://10.0.2.2:{port}/"
        seen = dom0.check(f"curl -sS --max-time 60 {url} -o /tmp/got && sha256sum </tmp/got && "
                          f"curl -sS --max-time 60 -T /tmp/got {url}")
    assert hashlib.sha256(content).hexdigest() in seen
    assert received == [content]


def test_the_kernel_has_nothing_to_complain_of(dom0):
    assert complaints(dom0) == ""


def test_poweroff_ends_the_machine(dom0):
    assert dom0.poweroff() == 0
