"""What people do with guests, by Debian's unmodified toolstack: one Domain 0, guests come and go."""
import itertools
import re

import pytest
from conftest import complaints, new_machine

GUEST = """
name = "{name}"
kernel = "/boot/vmlinuz"
ramdisk = "/boot/initrd"
extra = "console=hvc0 quiet hearth.guest=192.168.77.{address}/24"
memory = {memory}
vcpus = {vcpus}
on_crash = "preserve"
{more}
"""


@pytest.fixture(scope="module")
def dom0():
    with new_machine("domains", cpus=2, memory=2048, cmdline="loglvl=all") as booted:
        booted.wait_ready()
        booted.check("guests prepare", timeout=120)
        yield booted


def configure(dom0, name, memory=128, vcpus=1, address=9, more=""):
    text = GUEST.format(name=name, memory=memory, vcpus=vcpus, address=address, more=more)
    dom0.check(f"cat >/tmp/{name}.cfg <<'END'\n{text}\nEND")
    return f"/tmp/{name}.cfg"


def create(dom0, name, **options):
    """A guest whose console is heard from its first line on."""
    path = configure(dom0, name, **options)
    dom0.check(f"xl create -p {path}", timeout=120)
    # Straight from the daemon's terminal: xl console takes no input from anything but a terminal of its own.
    dom0.check(f"tty=$(xenstore-read /local/domain/$(xl domid {name})/console/tty); ln -sf $tty /tmp/{name}.tty; "
               f"(cat $tty >/tmp/{name}.out 2>/dev/null &); xl unpause {name}")
    heard(dom0, name, "guest: up")
    heard(dom0, name, "guest:/# ")


def heard(dom0, name, what, seconds=120, since="guest: up"):
    """Waits until a guest's console has said so; what it said since then."""
    status, _ = dom0.run(f"timeout {seconds} sh -c 'until grep -qF \"{what}\" /tmp/{name}.out; do sleep 0.2; done'", timeout=seconds + 30)
    said = dom0.check(f"tr -d '\\r' </tmp/{name}.out | sed -n '/{since}/,$p' | tail -n 100 | sed 's/^/  /'")
    assert status == 0, said
    return said


MARKS = itertools.count(1)


def in_guest(dom0, name, command, seconds=60):
    """The output of a command, typed on a guest's console."""
    number = next(MARKS)
    # The quotes keep what is typed apart from what is printed.
    dom0.check(f"echo 'echo begin\"\"-{number}-; {command}; echo end\"\"-{number}-' >/tmp/{name}.tty")
    return heard(dom0, name, f"end-{number}-", seconds, since=f"begin-{number}-")


def domains(dom0):
    """Name to [number, memory, vCPUs, state] of each domain but Domain 0."""
    lines = [line.split() for line in dom0.check("xl list").splitlines()[1:]]
    return {line[0]: line[1:5] for line in lines if line[0] != "Domain-0"}


def free_pages(dom0):
    """By the hypervisor's own count. Waits for the back ends to let go of what they have mapped."""
    dom0.check("timeout 30 sh -c 'until [ $(xl list | wc -l) = 2 ]; do sleep 0.2; done'")
    dom0.check("xl debug-keys m")
    return int(re.findall(r"memory: (\d+) of \d+ frames free", dom0.check("xl dmesg | sed 's/^/  /'"))[-1])


def test_domain_0_alone(dom0):
    assert domains(dom0) == {}
    info = dom0.check("xl info")
    assert re.search(r"xen_caps +: xen-3.0-x86_64", info)
    assert re.search(r"xen_scheduler +: credit2", info)
    assert "Pool-0" in dom0.check("xl cpupool-list")


def test_guest_with_two_vcpus_lives_and_dies(dom0):
    create(dom0, "lives", vcpus=2)
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


def burnt(dom0, name):
    """Seconds of processor time that a domain has had."""
    return float(dom0.check(f"xl list {name} | tail -n 1").split()[5])


def test_a_cap_bounds_what_a_guest_burns(dom0):
    create(dom0, "capped", vcpus=2)
    dom0.check("echo 'while :; do :; done & while :; do :; done &' >/tmp/capped.tty")
    dom0.check("xl sched-credit2 -d capped -c 50")
    assert re.search(r"capped +\d+ +256 +50", dom0.check("xl sched-credit2"))

    def share():
        began, before = float(dom0.check("cut -d' ' -f1 /proc/uptime")), burnt(dom0, "capped")
        dom0.check("timeout 60 sh -c 'while :; do set -- $(cat /proc/uptime); [ ${1%%.*} -lt %d ] || exit 0; sleep 0.5; done'" % (began + 15))
        return (burnt(dom0, "capped") - before) / (float(dom0.check("cut -d' ' -f1 /proc/uptime")) - began)
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
    status, said = dom0.run("xl cpupool-cpu-remove other 1 && xl cpupool-list && false || xl cpupool-destroy other 2>&1")
    assert "destroy" in said, said
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
    # The daemon that xl create left behind takes it away.
    dom0.check("timeout 60 sh -c 'while xl domid devices >/dev/null 2>&1; do sleep 0.2; done'", timeout=90)


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


def test_guest_that_crashes_is_kept_and_dumped(dom0):
    create(dom0, "crashes")
    in_guest(dom0, "crashes", "echo 1 >/proc/sys/kernel/sysrq")
    dom0.check("echo 'echo c >/proc/sysrq-trigger' >/tmp/crashes.tty; "
               "timeout 60 sh -c 'until xl list crashes | grep -q -- ---sc-; do sleep 0.2; done'", timeout=90)
    dom0.check("xl destroy crashes")


def make_mistakes(dom0):
    status, said = dom0.run(f"xl create {configure(dom0, 'greedy', memory=4096)} 2>&1")
    assert status != 0 and re.search("memory", said, re.I), said
    path = configure(dom0, "nokernel")
    status, said = dom0.run(f"sed -i 's,/boot/vmlinuz,/bin/busybox,' {path}; xl create {path} 2>&1")
    assert status != 0 and re.search("kernel|image|elf", said, re.I), said
    status, said = dom0.run("xl create -p /nowhere.cfg 2>&1")
    assert status != 0
    assert domains(dom0) == {}


def test_mistakes_are_named_and_leave_nothing(dom0):
    # Once for the frames of small objects and tables, which stay with Hearth for the next time.
    make_mistakes(dom0)
    before = free_pages(dom0)
    make_mistakes(dom0)
    assert free_pages(dom0) == before


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
    assert not re.search(r"panic|stack trace|lock of rank", dom0.check("xl dmesg | sed 's/^/  /'"))
