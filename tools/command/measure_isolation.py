"""./hearth bench isolation: what two well-behaved guests lose when a third misbehaves. See bench/README.md."""
import re

import commands
import measure
import toolstack

GOAL = 0.02  # how much of its work a well-behaved guest may lose
SECONDS = 2
WELL_BEHAVED = {"computing": "compute", "requests": "requests"}  # a guest's name, and what it counts
GUEST = f"""name = "{{name}}"
kernel = "{toolstack.KERNEL}"
ramdisk = "/guests/ramdisk"
extra = "console=hvc0 quiet loglevel=0 hearth.guest=192.168.77.9/24"
memory = 96
tsc_mode = "native"
disk = [{{disk}}]
"""
DISKS = {name: f"'phy:/dev/ram{number},xvda,w'" for number, name in enumerate(["requests", "third"])}
QUIET, BUSY = "a third that computes", "a third and Domain 0 that compute"
ALONE = "nobody: computing, and nothing else runs"
OWNERS = 4  # of equal shares of the CPU: three guests and Domain 0
# What the third guest does; what stands in its place when nobody misbehaves.
HOGS = {"fork bomb": ("forks", QUIET), "memory hog": ("memory", QUIET), "disk hog": ("disk", BUSY)}
BESIDE = {QUIET: ("spin", ""), BUSY: ("spin", "/guests/neighbour spin & echo $! >/tmp/spinning; "), **{hog: (work, "") for hog, (work, _) in HOGS.items()}}


def start(dom0, name):
    toolstack.start(dom0, name, GUEST.format(name=name, disk=DISKS.get(name, "")))


def work_beside(dom0, third, in_domain0):
    """What each well-behaved guest has done. All by one command: typing is slow when everybody computes."""
    counts = {}
    while not counts or len({begun for begun, _ in counts.values()}) > 1:  # they might have missed each other by an instant
        start(dom0, "third")
        dom0.check(f"rm -f /tmp/spinning; for name in {' '.join(WELL_BEHAVED)}; do : >/tmp/$name.out; done; "
                   f"echo '/neighbour {third}' >/tmp/third.tty; {in_domain0}sleep 1; " +
                   "".join(f"echo '/neighbour {work} {SECONDS}' >/tmp/{name}.tty; " for name, work in WELL_BEHAVED.items()) +
                   f"sleep {SECONDS}; until [ $(cat {' '.join(f'/tmp/{name}.out' for name in WELL_BEHAVED)} | grep -c begun=) = {len(WELL_BEHAVED)} ]; do sleep 1; done; "
                   "[ ! -e /tmp/spinning ] || kill $(cat /tmp/spinning); xl destroy third", timeout=3000)
        counts = {name: tuple(map(int, re.search(r"begun=(\d+) work=(\d+)", dom0.check(f"cat /tmp/{name}.out")).groups())) for name in WELL_BEHAVED}
    return {name: work for name, (_, work) in counts.items()}


def work_alone(dom0, name):
    dom0.check(f": >/tmp/{name}.out; echo '/neighbour {WELL_BEHAVED[name]} {SECONDS}' >/tmp/{name}.tty; sleep {SECONDS}; until grep -q begun= /tmp/{name}.out; do sleep 1; done", timeout=3000)
    return int(re.search(r"work=(\d+)", dom0.check(f"cat /tmp/{name}.out"))[1])


def count(who, image, folder):
    with toolstack.counting_domain0(f"isolation-{who}", image, [folder + "/ramdisk", folder + "/neighbour"]) as dom0:
        dom0.check(f"modprobe brd rd_nr=2 rd_size={64 << 10}")
        for name in WELL_BEHAVED:
            start(dom0, name)
        return {ALONE: {"computing": work_alone(dom0, "computing")}} | {beside: work_beside(dom0, *what) for beside, what in BESIDE.items()}


def lost(work):
    """Hog to guest to the part of its work that it has lost to the hog: of what it had without one, but of no more than its share of the CPU does."""
    own = {name: alone / OWNERS for name, alone in work[ALONE].items()}
    return {hog: {name: 1 - work[hog][name] / min(work[instead][name], own.get(name, work[instead][name])) for name in WELL_BEHAVED} for hog, (_, instead) in HOGS.items()}


def report(results):
    """Prints the table; how many of Hearth's figures miss the goal."""
    losses = {who: lost(work) for who, work in results.items()}
    print(f"{'work done beside':36}" + "".join(f"{title + ', ' + name:>22}" for title in ("Xen", "Hearth") for name in WELL_BEHAVED))
    for beside in [ALONE, *BESIDE]:
        print(f"{beside:36}" + "".join(f"{results[who][beside].get(name, 0):>22,}" for who in ("xen", "hearth") for name in WELL_BEHAVED))
    print(f"\n{'lost to a (goal: ' + format(GOAL, '.0%') + ')':36}")
    for hog in HOGS:
        above = any(part > GOAL for part in losses["hearth"][hog].values())
        print(f"{hog:36}" + "".join(f"{losses[who][hog][name]:>22.2%}" for who in ("xen", "hearth") for name in WELL_BEHAVED) + ("  missed" if above else ""))
    return sum(part > GOAL for parts in losses["hearth"].values() for part in parts.values())


def isolation():
    commands.say("guests work beside others that misbehave on each hypervisor, under instruction counting (a quarter of an hour)")
    with measure.folder_with("neighbour") as folder:
        results = measure.on_each(count, folder)
    misses = report(results)
    measure.keep("isolation", {"unit": f"pieces of work in {SECONDS} s of virtual time, 1 CPU", "results": results, "lost": {who: lost(work) for who, work in results.items()}})
    return 1 if misses else 0
