"""./hearth bench paths: what the hypervisor executes for each thing that a guest may ask. See bench/README.md."""
import json
import math
import os
import re

import commands
import machine
import measure
from machine import BUILD, ROOT

BASELINE = os.path.join(ROOT, "bench/paths-baseline.json")
ALLOWED_GROWTH = 1.05
GOAL = 0.5  # of what Xen takes


def count(name, image):
    """Instructions by path, as the guest bench/paths.cpp times them on a hypervisor."""
    text = measure.what_a_guest_says("paths", name, image, 120, memory=512)
    return {path: int(value) for path, value in re.findall(r"^PATH (.*): (\d+)$", text, re.M)}


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def baseline():
    with open(BASELINE) as file:
        return json.load(file)["instructions"]


def grown(counts, kept):
    """Complaints about what takes longer than was kept, or cannot be compared."""
    return [f"{path}: {counts[path]} instructions, {kept[path]} kept" for path in counts
            if path in kept and counts[path] > kept[path] * ALLOWED_GROWTH] + \
           [f"{path}: measured or kept, but not both" for path in sorted(counts.keys() ^ kept.keys())]


def check():
    """Holds Hearth's counts against those that are kept."""
    complaints = grown(count("hearth", machine.hypervisor()), baseline())
    if complaints:
        raise commands.Failure("paths through the hypervisor have grown (bench/README.md):\n" + "\n".join(complaints))


def keep(counts):
    with open(BASELINE, "w") as file:
        json.dump({"unit": "executed instructions", "instructions": counts}, file, indent=2)
        file.write("\n")


def chart(counts, ratios):
    """Bars: Hearth's part of what Xen takes."""
    height, left, width, row = 28 + 18 * len(ratios), 290, 400, 18
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 130}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<text x="{left}" y="14">instructions, Hearth / Xen</text>']
    for number, (path, ratio) in enumerate(ratios.items()):
        top = 22 + row * number
        length = round(min(ratio, 1.2) / 1.2 * width)
        parts.append(f'<text x="{left - 8}" y="{top + 12}" text-anchor="end">{path}</text>'
                     f'<rect x="{left}" y="{top}" width="{length}" height="14" fill="{"#4a8" if ratio <= GOAL else "#c84"}"/>'
                     f'<text x="{left + length + 6}" y="{top + 12}">{ratio:.2f} ({counts[path]:,})</text>')
    for mark in (GOAL, 1):
        at = left + round(mark / 1.2 * width)
        parts.append(f'<line x1="{at}" x2="{at}" y1="20" y2="{height}" stroke="#888" stroke-dasharray="3"/>')
    return "\n".join(parts + ["</svg>\n"])


def report(xen, hearth, kept, ratios):
    print(f"{'instructions':38}{'Debian Xen':>12}{'goal':>8}{'Hearth':>8}{'kept':>8}{'Hearth/Xen':>12}")
    for path, ratio in ratios.items():
        print(f"{path:38}{xen[path]:>12,}{int(xen[path] * GOAL):>8,}{hearth[path]:>8,}{kept.get(path, 0):>8,}{ratio:>12.2f}"
              f"{'' if ratio <= GOAL else '  above the goal'}")
    print(f"{'geometric mean':74}{geometric_mean(ratios.values()):>12.2f}")


def paths(options):
    if options.check:
        check()
        commands.say(f"no path takes over {ALLOWED_GROWTH - 1:.0%} more than is kept in {os.path.relpath(BASELINE)}")
        return 0
    hearth = count("hearth", machine.hypervisor())
    if options.keep:
        keep(hearth)
        commands.say(f"kept in {os.path.relpath(BASELINE)}")
    xen = count("xen", measure.debian_xen())
    ratios = {path: hearth[path] / xen[path] for path in hearth if path != "nothing"}
    kept = baseline()
    report(xen, hearth, kept, ratios)
    with open(os.path.join(BUILD, "bench/paths.json"), "w") as file:
        json.dump({"unit": "executed instructions, 1 CPU", "xen": xen, "hearth": hearth, "kept": kept, "ratios": ratios,
                   "geometric_mean": geometric_mean(ratios.values())}, file, indent=2)
    with open(os.path.join(BUILD, "bench/paths.svg"), "w") as file:
        file.write(chart(hearth, ratios))
    print("\nbuild/bench/paths.json, build/bench/paths.svg")
    for complaint in grown(hearth, kept):
        print(f"hearth: {complaint}")
    return 0
