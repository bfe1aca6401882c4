"""./hearth bench fair: how one CPU is divided among 128 domains, and how soon one that sleeps is served. See bench/README.md."""
import re
import statistics

import commands
import machine
import measure

GOALS = {"largest error of a share": 0.02, "throughput lost": 0.01, "mean lateness, ms": 2.0}


def summary(text):
    lines = [[kind, *map(int, numbers.split())] for kind, numbers in re.findall(r"^(ALONE|TIME|SHARE|LATE) ([\d ]+)$", text, re.M)]
    of = lambda wanted: [numbers for kind, *numbers in lines if kind == wanted]
    [[alone]], [[time]], shares, late = of("ALONE"), of("TIME"), of("SHARE"), [ns / 1e6 for [ns] in of("LATE")]
    weights, total = sum(weight for weight, _, _ in shares), sum(work for _, work, _ in shares)
    errors = [abs(work * weights / (total * weight) - 1) for weight, work, _ in shares]
    return {
        "largest error of a share": max(errors),
        "mean error of a share": statistics.mean(errors),
        "throughput lost": 1 - total / time / (alone / 1e9),
        "wakes": len(late),
        "mean lateness, ms": statistics.mean(late),
        "99th percentile, ms": statistics.quantiles(late, n=100)[-1],
        "longest, ms": max(late),
        "by weight, of the fair share": {weight // 256: statistics.mean(work * weights / (total * weight) for w, work, _ in shares if w == weight)
                                         for weight in sorted({weight for weight, _, _ in shares})},
    }


def report(results):
    print(f"{'128 domains of weights 1 to 8, 10 s':38}{'Debian Xen':>12}{'Hearth':>10}{'goal':>8}")
    for what, value in results["hearth"].items():
        if isinstance(value, dict):
            continue
        shown = [f"{results[who][what]:.2%}" if "error" in what or "lost" in what else f"{results[who][what]:,.3f}" if "ms" in what else
                 f"{results[who][what]:,}" for who in ("xen", "hearth")]
        goal = GOALS.get(what)
        print(f"{what:38}{shown[0]:>12}{shown[1]:>10}{'' if goal is None else goal if 'ms' in what else format(goal, '.0%'):>8}"
              f"{'  missed' if goal is not None and value > goal else ''}")


def fair():
    commands.say("128 domains share one CPU for ten seconds of virtual time on each hypervisor (some minutes)")
    images = {"hearth": machine.hypervisor(), "xen": measure.debian_xen()}
    results = {who: summary(measure.what_a_guest_says("fair", who, image, 900, memory=1024, cmdline="dom0_mem=64M")) for who, image in images.items()}
    report(results)
    measure.keep("fair", {"unit": "parts of one, milliseconds of virtual time; 1 CPU", "results": results})
    missed = [what for what, goal in GOALS.items() if results["hearth"][what] > goal]
    return 1 if missed else 0
