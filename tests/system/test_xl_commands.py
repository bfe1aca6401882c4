"""Each sub-command of Debian's xl that applies to PV guests: how it ends and what it says first, held against docs/xl.md.

The table has a column for Hearth and one for Debian's Xen; a run with HEARTH_IMAGE naming that one is held against its column.
`--write-tables` writes what happened into the column instead."""
import os
import re

import machine
import pytest
from conftest import new_machine

UNKNOWN = "?"  # not tried yet
TABLE = os.path.join(machine.ROOT, "docs/xl.md")

# With 96 MiB g spins after block-attach, on either hypervisor: blkfront takes 8 MiB for its queues, and waits for ever where there is none.
FILES = {
    "g.cfg": """name = "g"\nkernel = "/boot/vmlinux"\nramdisk = "/boot/initrd"\nmemory = 160\nmaxmem = 192\nvcpus = 2
extra = "console=hvc0 quiet hearth.guest=192.168.77.9/24"\non_crash = "preserve"\n""",
    "bad.cfg": 'name = "bad"\nkernel = "/nowhere"\nmemory = 96\n',
    "lent.cfg": """name = "lent"\nkernel = "/boot/vmlinux"\nramdisk = "/boot/initrd"\nmemory = 96\nioports = ["2f8-2ff"]
iomem = ["fed00,1"]\n""",
    "irq.cfg": 'name = "irq"\nkernel = "/boot/vmlinux"\nramdisk = "/boot/initrd"\nmemory = 96\nirqs = [5]\n',
    "com1.cfg": 'name = "com1"\nkernel = "/boot/vmlinux"\nramdisk = "/boot/initrd"\nmemory = 96\nioports = ["3f8-3ff"]\n',
    "pci.cfg": 'name = "pci"\nkernel = "/boot/vmlinux"\nramdisk = "/boot/initrd"\nmemory = 96\npci = ["00:1f.3"]\n',
    "hvm.cfg": 'name = "hvm"\ntype = "hvm"\nmemory = 96\n',
    "pool.cfg": 'name = "pool"\nsched = "credit2"\ncpus = ["1"]\n',
    "credit.cfg": 'name = "credit"\nsched = "credit"\n',
}

# In this order, on one machine. After "# ": what is waited for first.
COMMANDS = """
xl help
xl info
xl info -n
xl list
xl claims
xl dmesg
xl debug-keys h
xl set-parameters x=y
xl getenforce
xl setenforce 1
xl loadpolicy /dev/null
xl create -n g.cfg
xl create bad.cfg
xl create hvm.cfg
xl create pci.cfg
xl create com1.cfg
xl create irq.cfg
xl destroy irq
xl create -p lent.cfg
xl destroy lent
xl create g.cfg # guest: up
xl create g.cfg
xl list g
xl list -v
xl list -c
xl list -l g
xl list nobody
xl vm-list
xl domid g
xl domid nobody
xl domname 0
xl domname 999
xl uptime
xl uptime g
xl vcpu-list g
xl vcpu-list nobody
xl vcpu-pin g 0 1
xl vcpu-pin g 0 7
xl vcpu-pin g 1 all 0
xl vcpu-pin g all all all
xl vcpu-pin g 5 0
xl vcpu-set g 1
xl vcpu-set g 2
xl vcpu-set g 9
xl mem-max g 224
xl mem-set g 144
xl mem-set g 160
xl rename g other
xl rename other g
xl config-update g g.cfg
xl pause g
xl pause nobody
xl unpause g
xl unpause g
xl sched-credit
xl sched-credit2
xl sched-credit2 -d g -w 512 -c 50
xl sched-credit2 -d g
xl sched-credit2 -d g -c 5000
xl sched-credit2 -d g -w 256 -c 0
xl sched-credit2 -s -r 500
xl sched-credit2 -s -r 5
xl sched-credit2 -s
xl sched-rtds
xl cpupool-list
xl cpupool-list -c
xl cpupool-create credit.cfg
xl cpupool-destroy credit
xl cpupool-create pool.cfg
xl cpupool-cpu-remove Pool-0 1
xl cpupool-create pool.cfg
xl cpupool-create pool.cfg
xl cpupool-list nobody
xl cpupool-migrate g pool
xl cpupool-migrate Domain-0 pool
xl cpupool-migrate g nobody
xl list -c g
xl cpupool-destroy pool
xl cpupool-rename pool renamed
xl cpupool-migrate g Pool-0
xl cpupool-cpu-remove renamed 1
xl cpupool-cpu-remove renamed 0
xl cpupool-migrate g renamed
xl cpupool-destroy renamed
xl cpupool-destroy Pool-0
xl cpupool-cpu-add Pool-0 1
xl cpupool-cpu-add Pool-0 1
xl cpupool-cpu-remove Pool-0 0
xl cpupool-numa-split
xl cpupool-rename Pool-node0 Pool-0
xl cpupool-list
xl network-attach g bridge=xenbr0
xl network-list g
xl network-detach g 0
xl block-attach g format=raw,vdev=xvdb,access=rw,target=/tmp/disk.img
xl block-list g
xl block-detach g xvdb
xl channel-list g
xl vtpm-list g
xl vkb-list g
xl vdispl-list g
xl vsnd-list g
xl usb-list g
xl usbctrl-attach g
xl pci-list g
xl pci-assignable-list
xl pci-attach g 00:1f.3
xl cd-insert g xvda /tmp/disk.img
xl qemu-monitor-command g info
xl button-press g power
xl trigger g power
xl trigger g reset
xl trigger nobody nmi
xl psr-hwinfo
xl psr-cmt-attach g
xl psr-cmt-show cache-occupancy
xl psr-cat-show
xl psr-cat-set g 1
xl psr-mba-show
xl sysrq g h
xl dump-core g /tmp/core
xl console nobody
xl vncviewer g
xl save g /tmp/saved
xl list g
xl restore /tmp/saved
xl list g
xl save -c g /tmp/saved
xl remus g nobody
xl migrate g nobody
xl shutdown nobody
xl shutdown -w g
xl destroy g
xl create g.cfg # guest: up
xl reboot g
xl destroy g
xl destroy g
xl destroy 0
xentop -b -i 1
xenpm get-cpu-topology
xenpm get-cpuidle-states
xen-livepatch list
xenperf
xenlockprof
xencov read
""".strip().splitlines()


@pytest.fixture(scope="module")
def dom0():
    with new_machine("xl commands", cpus=2, memory=2048) as booted:
        booted.wait_ready()
        booted.check("guests prepare; truncate -s 16M /tmp/disk.img", timeout=120)
        for name, text in FILES.items():
            booted.check(f"cat >/tmp/{name} <<'END'\n{text}END")
        yield booted


def normalised(text):
    """The first line that says something, without what differs from run to run."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not re.match(r"Parsing config|Using config|.*Device present in JSON", line)]
    line = lines[0] if lines else ""
    line = re.sub(r"libxl_\w+\.c:\d+:", "", line)
    line = re.sub(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*\b", "N", re.sub(r"\s+", " ", line))
    return line.replace("|", "/").replace("`", "'")[:80].strip()


def guest_is_up(dom0, name, mark):
    """Waits until the guest's console has said so."""
    dom0.check(f"tty=$(xenstore-read /local/domain/$(xl domid {name})/console/tty); (cat $tty >/tmp/said 2>/dev/null &); "
               f"timeout 120 sh -c 'until grep -qF \"{mark}\" /tmp/said; do sleep 0.2; done'", timeout=150)


def carry_out(dom0, line):
    command, _, mark = line.partition(" # ")
    if mark:  # the daemon of a guest that ended takes it away
        dom0.check("timeout 60 sh -c 'while xl domid g >/dev/null 2>&1; do sleep 0.2; done'", timeout=90)
    tool = "" if command.startswith("xl ") else "/usr/lib/xen-4.17/bin/:/usr/sbin:"
    status, said = dom0.run(f"cd /tmp; PATH={tool}$PATH timeout 100 {command} 2>&1", timeout=150)
    if mark and status == 0:
        guest_is_up(dom0, "g", mark)
    return f"{status} `{normalised(said)}`" if normalised(said) else str(status)


def read_table():
    """Command, Hearth's and Xen's answer of each row; a command may occur again."""
    if not os.path.exists(TABLE):
        return []
    with open(TABLE, encoding="utf-8") as file:
        return [re.split(r" *\| *", line.strip())[1:4] for line in file if line.startswith("| `")]


def write_table(rows):
    with open(TABLE, "w", encoding="utf-8") as file:
        file.write("# What xl says\n\nEach command of Debian 12's toolstack, in this order on one machine with two CPUs: its exit status and the start of what it says\n"
                   "first, numbers as N. Written by `tests/system/test_xl_commands.py --write-tables`, which fails when something else happens.\n"
                   "What `g` is, and the other files: there. Where there is a question mark, nothing is known yet.\n\n"
                   "| command | Hearth | Debian's Xen, where it differs |\n|---|---|---|\n")
        file.writelines(f"| {command} | {ours} | {'' if ours == theirs else theirs} |\n" for command, ours, theirs in rows)


@pytest.mark.slow
def test_every_command_ends_as_the_table_says(dom0, request):
    happened = [(f"`{line.partition(' # ')[0]}`", carry_out(dom0, line)) for line in COMMANDS]
    table = [(command, ours, theirs or ours) for command, ours, theirs in read_table()]
    if request.config.getoption("--write-tables"):
        known = {(number, row[0]): row for number, row in enumerate(table)}
        rows = []
        for number, (command, answer) in enumerate(happened):
            _, ours, theirs = known.get((number, command), (command, UNKNOWN, UNKNOWN))
            rows.append((command, answer, theirs) if machine.is_hearth() else (command, ours, answer))
        write_table(rows)
        return
    column = 1 if machine.is_hearth() else 2
    expected = [(row[0], row[column]) for row in table]
    assert [command for command, _ in expected] == [command for command, _ in happened], "the table is of other commands"
    different = [f"{was[0]}: {now[1]}, not {was[1]}" for was, now in zip(expected, happened) if was != now and was[1] != UNKNOWN]
    assert not different, "\n".join(different)
