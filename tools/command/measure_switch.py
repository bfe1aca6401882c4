"""./hearth bench switch: what it costs that another vCPU runs, and how late one that sleeps does. See bench/README.md."""
import re
import statistics

import commands
import machine
import measure
from measure_paths import GOAL, geometric_mean

# How the guest bench/switch.cpp is started: everything on one CPU, and its two vCPUs on one each.
PLACES = {"together": {"cpus": 1, "cmdline": "dom0_mem=64M dom0_max_vcpus=2"},
          "apart": {"cpus": 2, "cmdline": "dom0_mem=64M dom0_max_vcpus=2 dom0_vcpus_pin", "dom0_cmdline": "apart"}}


def summary(numbers):
    return {"median": statistics.median_low(numbers), "99th percentile": sorted(numbers)[len(numbers) * 99 // 100], "worst": max(numbers)}


def count(who, image):
    """By kind: instructions of a round trip, or of lateness."""
    results = {}
    for place, options in PLACES.items():
        text = measure.what_a_guest_says("switch", f"{who}-{place}", image, 300, memory=512, **options)
        for what, numbers in re.findall(r"^SWITCH (.*):((?: -?\d+)+)$", text, re.M):
            results[what] = summary([int(number) for number in numbers.split()])
    return results


def report(xen, hearth, ratios):
    print(f"{'instructions':52}{'Debian Xen':>30}{'Hearth':>30}{'Hearth/Xen':>12}")
    print(f"{'':52}{'median':>10}{'99 %':>10}{'worst':>10}" + f"{'median':>10}{'99 %':>10}{'worst':>10}{'of medians':>12}")
    for what, ratio in ratios.items():
        print(f"{what:52}" + "".join(f"{number:>10,}" for one in (xen, hearth) for number in one[what].values()) +
              f"{ratio:>12.2f}{'' if ratio <= GOAL else '  above the goal'}")
    print(f"{'geometric mean':112}{geometric_mean(ratios.values()):>12.2f}")


def switch():
    commands.say("vCPUs and domains wake each other on each hypervisor, on one CPU and on two (two minutes)")
    hearth, xen = count("hearth", machine.hypervisor()), count("xen", measure.debian_xen())
    ratios = {what: hearth[what]["median"] / xen[what]["median"] for what in xen}
    report(xen, hearth, ratios)
    measure.keep("switch", {"unit": "executed instructions; lateness in nanoseconds, which are the same", "xen": xen, "hearth": hearth, "ratios": ratios,
                            "geometric_mean": geometric_mean(ratios.values())})
    return 1 if max(ratios.values()) > GOAL else 0
