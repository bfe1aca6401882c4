"""./hearth bench io: executed instructions of a request to a guest's disk and network, in the hypervisor and in all. See bench/README.md."""
import os
import re

import commands
import measure
import toolstack

GOAL = 1.5  # how many times as much as Hearth Xen takes, at least
GUEST = f"""name = "io"
kernel = "{toolstack.KERNEL}"
ramdisk = "/guests/ramdisk"
extra = "console=hvc0 quiet hearth.guest=192.168.77.9/24"
memory = 128
disk = ["phy:/dev/ram0,xvda,w"]
vif = ["bridge=xenbr0"]
"""
# Repeated instructions, of which QEMU counts each turn, are not to hide the rest: Linux copies eight bytes at a time without them.
CPU = "max,smap=off,rdrand=off,erms=off,fsrm=off"


def per_request(said, marks):
    """What a request took, of each kind in the order in which the program did them: {"all": instructions, "hypervisor": instructions}."""
    sums = [tuple(map(int, line.split())) for line in marks.splitlines()]
    kinds = [(name, int(count)) for name, count in re.findall(r"REQUESTS (.*): (\d+)", said)]
    if not kinds or len(sums) != 2 * len(kinds):
        raise commands.Failure(f"{len(kinds)} kinds of requests, but {len(sums)} marks")
    return {name: {what: round((after - before) / count) for what, before, after in zip(("all", "hypervisor"), sums[2 * at], sums[2 * at + 1])}
            for at, (name, count) in enumerate(kinds)}


def count(who, image, folder):
    marks = os.path.join(folder, f"marks-{who}")
    with toolstack.counting_domain0(f"io-{who}", image, [folder + "/ramdisk", folder + "/requests"], cpu=CPU,
                                    more=["-plugin", f"file={commands.plugin('share')},out={marks}"]) as dom0:
        dom0.check(f"modprobe brd rd_nr=1 rd_size={64 << 10}; (/guests/requests serve >/tmp/serve.log 2>&1 &)")
        toolstack.start(dom0, "io", GUEST)
        said = toolstack.in_guest(dom0, "io", "/requests 192.168.77.1", seconds=900, look_every=5)
    with open(marks) as file:
        return per_request(said, file.read())


def report(results):
    """Prints the table; how many lines miss the goal."""
    print(f"{'instructions of one':40}{'in all: Xen':>14}{'Hearth':>12}{'Xen/Hearth':>12}{'hypervisor: Xen':>20}{'Hearth':>12}{'Xen/Hearth':>12}")
    misses = 0
    for name, hearth in results["hearth"].items():
        xen = results["xen"][name]
        ratios = {what: xen[what] / hearth[what] for what in ("all", "hypervisor")}
        misses += min(ratios.values()) < GOAL
        print(f"{name:40}{xen['all']:>14,}{hearth['all']:>12,}{ratios['all']:>12.2f}{xen['hypervisor']:>20,}{hearth['hypervisor']:>12,}{ratios['hypervisor']:>12.2f}"
              + "".join(f"  {what} below {GOAL}" for what, ratio in ratios.items() if ratio < GOAL))
    return misses


def io():
    commands.say("a guest uses its disk and its network on each hypervisor, under instruction counting (ten minutes)")
    with measure.folder_with("requests") as folder:
        results = measure.on_each(count, folder)
    misses = report(results)
    measure.keep("io", {"unit": "executed instructions of one request, 1 CPU", "results": results})
    return 1 if misses else 0
