"""What people do with guests, by Debian's unmodified toolstack: one Domain 0, guests come and go. (Slow: with both daemons that Debian has for xenstore.)"""
import hashlib
import os
import re

import pytest
from conftest import complaints, new_machine
from guests import configure, create, domains, free_pages, in_guest, wait_until_gone
from web import serving


@pytest.fixture(scope="module", params=["oxenstored", pytest.param("xenstored", marks=pytest.mark.slow)])
def dom0(request):
    if request.param == "oxenstored":
        booted = request.getfixturevalue("toolstack")
        booted.check("pgrep -x oxenstored")
        yield booted
        return
    with new_machine(f"domains {request.param}", cpus=2, memory=2048, cmdline="loglvl=all") as booted:
        booted.wait_ready()
        booted.check(f"echo XENSTORED=/usr/lib/xen-4.17/bin/{request.param} >>/etc/default/xen; guests prepare; pgrep -x {request.param}", timeout=120)
        yield booted


@pytest.fixture(autouse=True)
def nobody_stays(dom0):
    """What a failed test leaves is in no other's way."""
    yield
    for name in domains(dom0):
        dom0.run(f"xl destroy {name}")


def test_domain_0_alone(dom0):
    assert domains(dom0) == {}
    info = dom0.check("xl info")
    assert re.search(r"xen_caps +: xen-3.0-x86_64", info)
    assert re.search(r"xen_scheduler +: credit2", info)
    assert "Pool-0" in dom0.check("xl cpupool-list")


def test_guest_with_two_vcpus_lives_and_dies(dom0):
    create(dom0, "lives", vcpus=2, kernel="/boot/vmlinuz")
    assert domains(dom0)["lives"][1:3] == ["128", "2"]
    assert "  2" in in_guest(dom0, "lives", "nproc").splitlines()
    assert "xen" in in_guest(dom0, "lives", "cat /sys/hypervisor/type")
    dom0.check("xl pause lives")
    assert domains(dom0)["lives"][3] == "--p---"
    dom0.check("xl unpause lives")
    in_guest(dom0, "lives", "true")
    dom0.check("xl vcpu-pin lives 0 1")
    assert re.search(r"lives +\d+ +0 +1 .* 1 / all", dom0.check("xl vcpu-list lives"))
    dom0.check("xl sched-credit2 -d lives -w 512")
    assert re.search(r"lives +\d+ +512", dom0.check("xl sched-credit2"))
    dom0.check("xl destroy lives")
    assert "lives" not in domains(dom0)


def test_a_cap_bounds_what_a_guest_burns(dom0):
    create(dom0, "capped", vcpus=2)
    dom0.check("echo 'while :; do :; done & while :; do :; done &' >/tmp/capped.tty")
    dom0.check("xl sched-credit2 -d capped -c 50")
    assert re.search(r"capped +\d+ +256 +50", dom0.check("xl sched-credit2"))

    def share():
        """Of one processor, over some seconds of Domain 0's time."""
        look = "xl list capped | tail -n 1; cut -d' ' -f1 /proc/uptime"  # in one command: what is typed comes late
        said = dom0.check(f"{look}; sleep 8; {look}", timeout=120).split()
        burnt, time = [float(said[at]) for at in (5, 12)], [float(said[at]) for at in (6, 13)]
        return (burnt[1] - burnt[0]) / (time[1] - time[0])
    assert 0.4 < share() < 0.6
    dom0.check("xl sched-credit2 -d capped -c 0")
    assert share() > 0.8  # of two CPUs, and Domain 0 has some work
    dom0.check("xl destroy capped")


def test_a_guest_lives_in_a_cpu_pool(dom0):
    dom0.check("xl cpupool-cpu-remove Pool-0 1; xl cpupool-create name='\"other\"'; xl cpupool-cpu-add other 1")
    create(dom0, "pooled", vcpus=2, more='pool = "other"')
    assert re.search(r"pooled .* other$", dom0.check("xl list -c"), re.M)
    assert set(re.findall(r"^pooled +\d+ +\d+ +(\S+)", dom0.check("xl vcpu-list pooled"), re.M)) == {"1"}
    assert set(re.findall(r"^Domain-0 +\d+ +\d+ +(\S+)", dom0.check("xl vcpu-list"), re.M)) <= {"0", "-"}
    # Neither the last CPU goes nor the pool, while there is somebody in it.
    for taken, said in [("cpu-remove other 1", "Device or resource busy"), ("destroy other", "destroy")]:
        assert said in dom0.run(f"xl cpupool-{taken} 2>&1")[1]
        assert re.search(r"^other +1 +credit2 +y +1", dom0.check("xl cpupool-list"), re.M), taken
    dom0.check("xl cpupool-migrate pooled Pool-0; xl cpupool-rename other another")
    in_guest(dom0, "pooled", "true")
    assert set(re.findall(r"^pooled +\d+ +\d+ +(\S+)", dom0.check("xl vcpu-list pooled"), re.M)) == {"0"}
    dom0.check("xl cpupool-destroy another; xl cpupool-cpu-add Pool-0 1; xl destroy pooled")
    assert re.search(r"Pool-0 +2 +credit2 +y +1", dom0.check("xl cpupool-list"))


def test_disk_and_network(dom0):
    dom0.check("truncate -s 32M /tmp/disk.img")
    create(dom0, "devices", address=7, more='disk = ["format=raw,vdev=xvda,access=rw,target=/tmp/disk.img"]\nvif = ["bridge=xenbr0"]')
    said = in_guest(dom0, "devices", "dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null; sha1sum </tmp/data; "
                    "dd if=/tmp/data of=/dev/xvda bs=1M oflag=direct 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; "
                    "dd if=/dev/xvda bs=1M count=4 2>/dev/null | sha1sum")
    sums = re.findall(r"\b[0-9a-f]{40}\b", said)
    assert len(sums) == 2 and sums[0] == sums[1], said
    dom0.check(f"dd if=/tmp/disk.img bs=1M count=4 2>/dev/null | sha1sum | grep {sums[0]}")
    assert " 0% packet loss" in in_guest(dom0, "devices", "ping -c 2 192.168.77.1")
    assert " 0% packet loss" in dom0.check("ping -c 2 192.168.77.7")
    dom0.check("xl shutdown -w devices", timeout=120)
    wait_until_gone(dom0, "devices")


def test_what_is_asked_of_a_running_guest_happens(dom0):
    create(dom0, "asked")
    dom0.check("xl mem-set asked 100; timeout 30 sh -c 'until xl list asked | grep -q \" 100 \"; do sleep 0.2; done'", timeout=60)
    dom0.check("xl mem-set asked 128; timeout 30 sh -c 'until xl list asked | grep -q \" 128 \"; do sleep 0.2; done'", timeout=60)
    dom0.check("xl rename asked renamed")
    assert "renamed" in domains(dom0)
    number = int(domains(dom0)["renamed"][0])
    dom0.check("xl reboot renamed")
    dom0.check(f"timeout 60 sh -c 'until [ $(xl domid renamed 2>/dev/null || echo {number}) -gt {number} ]; do sleep 0.5; done'", timeout=90)
    dom0.check("xl destroy renamed")


def test_vcpus_come_and_go(dom0):
    create(dom0, "plug", vcpus=2, more="maxvcpus = 4")
    dom0.check("xl vcpu-set -i plug 4")
    # Its own kernel makes them known; a daemon that the ramdisk has not got would turn them on.
    in_guest(dom0, "plug", "for n in 2 3; do until echo 1 >/sys/devices/system/cpu/cpu$n/online; do usleep 100000; done; done 2>/dev/null")
    for cpus in ["0-3", "0"]:
        said = in_guest(dom0, "plug", f"until grep -x {cpus} /sys/devices/system/cpu/online; do usleep 100000; done; "
                        "for n in 1 2 3 4; do (while :; do :; done) & done; usleep 500000; kill $(jobs -p); wait; echo all ran")
        assert "all ran" in said
        count = 4 if cpus == "0-3" else 1
        assert len(re.findall(r"plug +\d+ +\d+ +\d+ +[-rb]+ ", dom0.check("xl vcpu-list plug"))) == count
        dom0.check("xl vcpu-set plug 1")
    dom0.check("xl mem-max plug 200")
    assert re.search(r"plug .* 20[0-9]{4} ", dom0.check("xentop -b -i 1 -f"))
    dom0.check("xl destroy plug")


# In Domain 0: what somebody at a terminal sees and types.
TERMINAL = r"""
import os, pty, re, sys
child, line = pty.fork()
if child == 0:
    os.execvp("xl", ["xl", "console", sys.argv[1]])
said = b""
def wait_for(what):
    global said
    while not re.search(what, said):
        said += os.read(line, 4096)
    said = b""
os.write(line, b"\n")
wait_for(rb"guest:/# ")
os.write(line, b"echo he''llo\n")
wait_for(rb"\r\nhello\r\n")
os.write(line, b"\x1d")
print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_console_from_a_terminal(dom0):
    dom0.check(f"xl create -q {configure(dom0, 'typed')}", timeout=120)
    dom0.check(f"cat >/tmp/terminal.py <<'END'\n{TERMINAL}\nEND")
    assert "status 0" in dom0.check("timeout 90 python3 /tmp/terminal.py typed", timeout=120)
    dom0.check("xl destroy typed")


def test_two_guests_reach_one_another(dom0):
    for name, address in [("one", 11), ("other", 12)]:
        create(dom0, name, address=address, vcpus=3, more='vif = ["bridge=xenbr0"]')
    assert " 0% packet loss" in in_guest(dom0, "one", "ping -c 3 192.168.77.12")
    assert " 0% packet loss" in in_guest(dom0, "other", "ping -c 3 192.168.77.11")
    dom0.check("xl destroy one; xl destroy other")


def test_guest_reaches_out_through_the_machines_card(dom0):
    """Where the bridge has Domain 0's own card, a guest is on QEMU's network, whose gateway leads to this machine here."""
    card = dom0.check("until ip -4 route | grep -q ^default; do sleep 0.2; done; ip -4 route show default | sed 's/.* dev //; s/ .*//'")
    dom0.check(f"ip link set {card} master xenbr0")
    create(dom0, "outgoing", more='vif = ["bridge=xenbr0"]')
    content = os.urandom(4 << 20)
    with serving(content) as (port, _):
        said = in_guest(dom0, "outgoing", f"ip addr add 10.0.2.77/24 dev eth0; ping -c 3 10.0.2.2; wget -qO- http://10.0.2.2:{port}/ | sha1sum")
    assert " 0% packet loss" in said and hashlib.sha1(content).hexdigest() in said, said
    dom0.check(f"xl destroy outgoing; ip link set {card} nomaster")


def test_disk_that_is_a_partition(dom0):
    # A partition table with one entry: type 0x83, from sector 2048 on, 16 MiB.
    dom0.check("truncate -s 20M /tmp/parted.img; printf '\\0\\0\\0\\0\\203\\0\\0\\0\\0\\10\\0\\0\\0\\200\\0\\0' "
               "| dd of=/tmp/parted.img bs=1 seek=446 conv=notrunc; printf '\\125\\252' | dd of=/tmp/parted.img bs=1 seek=510 conv=notrunc")
    part = dom0.check("losetup -P --show -f /tmp/parted.img") + "p1"
    dom0.check(f"mke2fs -q {part}")
    create(dom0, "part", more=f'disk = ["phy:{part},xvda1,w"]')
    in_guest(dom0, "part", "mount /dev/xvda1 /root && echo content >/root/file; umount /root")
    dom0.check("xl destroy part")
    assert dom0.check(f"debugfs -R 'cat file' {part} 2>/dev/null") == "content"


def test_guest_that_crashes_is_kept_and_dumped(dom0):
    create(dom0, "crashes")
    in_guest(dom0, "crashes", "echo 1 >/proc/sys/kernel/sysrq")
    dom0.check("echo 'echo c >/proc/sysrq-trigger' >/tmp/crashes.tty; "
               "timeout 60 sh -c 'until xl list crashes | grep -q -- ---sc-; do sleep 0.2; done'", timeout=90)
    # An ELF file with all of its memory, in which its kernel's last words are.
    dom0.check("xl dump-core crashes /root/core && [ $(stat -c %s /root/core) -gt $((128 << 20)) ] && "
               "readelf -SW /root/core | grep -q xen_pages && grep -qa 'sysrq triggered crash' -i /root/core", timeout=120)
    dom0.check("rm /root/core; xl destroy crashes")


def test_nothing_is_left_of_guests_that_came_and_went(dom0, slow):
    path = configure(dom0, "mayfly", memory=96, vcpus=2)
    once = f"xl create -q {path} && xl destroy mayfly"
    dom0.check(once, timeout=120)
    before = free_pages(dom0)
    rounds = 50 if slow else 5
    dom0.check(f"for i in $(seq {rounds}); do {once} || exit 1; done", timeout=60 + 40 * rounds)
    assert free_pages(dom0) == before


def test_domain_0_has_nothing_to_complain_of(dom0):
    assert complaints(dom0) == ""
