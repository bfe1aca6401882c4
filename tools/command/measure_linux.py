"""./hearth bench linux: what system calls, faults and processes of Linux cost natively, in Domain 0 and in a guest on each hypervisor. See bench/README.md."""
import concurrent.futures
import os
import re
import subprocess

import commands
import machine
import measure
import toolstack
from machine import BUILD, DOM0, ROOT

MEMORY = 512  # MiB, and what Linux has of it wherever it is measured
LINUX = 320
# QEMU counts each turn of a repeated instruction: with erms, Linux clears pages a byte at a time, and nothing else would be seen beside it.
CPU = "max,smap=off,rdrand=off,erms=off,fsrm=off"
# By how much more than natively, or how many times as much, Hearth may take.
MOST_MORE = {"getppid": 250}
MOST_TIMES = {"mmap, touch": 1.4, "mprotect, twice": 1.5, "page fault, file": 2, "pipe, there and back": 1.5, "fork and exit": 2,
              "fork and exec": 2}
CLOCK = "vDSO clock"
CLOCK_ON_TWO = "vDSO clock, 2 CPUs"
CLOCKS = (CLOCK, CLOCK_ON_TWO)
GUEST = f"""name = "work"
kernel = "{toolstack.KERNEL}"
ramdisk = "/guests/ramdisk"
memory = {LINUX}
tsc_mode = "native"
"""


def native(folder):
    """Linux without a hypervisor."""
    return ["-m", str(LINUX), "-kernel", DOM0 + "/vmlinuz", "-append", "console=ttyS0 quiet norandmaps rdinit=/work", "-initrd", folder + "/ramdisk"]


def on(image, cpus=1, words=""):
    def arguments(folder):
        return ["-m", str(MEMORY), "-smp", str(cpus), "-kernel", image, "-append", f"dom0_mem={LINUX}M console=com1 com1=115200,8n1",
                "-initrd", f"{DOM0}/vmlinux console=hvc0 quiet norandmaps rdinit=/work{words},{folder}/ramdisk"]
    return arguments


def counts(text):
    return {what: int(value) for what, value in re.findall(r"WORK (.*): (\d+)", text)}


def count(name, arguments, folder):
    """What the program says as the first of a machine."""
    log = os.path.join(BUILD, f"bench/linux-{name}.log")
    command = ["qemu-system-x86_64", "-machine", "q35", "-cpu", CPU, "-accel", "tcg", "-icount", "shift=0,sleep=off",
               "-display", "none", "-monitor", "none", "-nic", "none", "-seed", "1", "-rtc", "base=2020-01-01,clock=vm", "-no-reboot",
               "-serial", f"file:{log}", *arguments(folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                pass
            with open(log, errors="replace") as file:
                text = file.read()
            if process.poll() is not None or re.search(r"WORK (done|failed)|Kernel panic", text):
                break
    finally:
        process.kill()
        process.wait()
    if "WORK done" not in text:
        raise commands.Failure(f"{name}: the program did not end (the whole log: {os.path.relpath(log, ROOT)})")
    return counts(text)


def count_in_guest(dom0, vcpus, words=""):
    """What it says as the first program of a guest. Domain 0 looks at its console now and then, and sleeps."""
    extra = f"console=hvc0 quiet norandmaps rdinit=/work{words}"
    dom0.check(f"cat >/tmp/work.cfg <<'END'\n{GUEST}vcpus = {vcpus}\nextra = \"{extra}\"\nEND\nxl create -p /tmp/work.cfg", timeout=300)
    toolstack.listen(dom0, "work")
    said = toolstack.heard(dom0, "work", "WORK done", seconds=600, since="^", look_every=5)
    dom0.check("xl destroy work", timeout=300)
    return counts(said)


def guests(who, image, folder):
    """Of a guest with one vCPU on a machine with one CPU, and its clock with two on two."""
    ramdisk = [folder + "/ramdisk"]
    with toolstack.counting_domain0(f"linux-{who}-guest", image, ramdisk, cpu=CPU) as dom0:
        result = count_in_guest(dom0, vcpus=1)
    with toolstack.counting_domain0(f"linux-{who}-guest-2", image, ramdisk, cpu=CPU, cpus=2) as dom0:
        return result | {CLOCK_ON_TWO: count_in_guest(dom0, vcpus=2, words=" -- clock")[CLOCK]}


def domain0(who, image, folder):
    result = count(who, on(image), folder)
    return result | {CLOCK_ON_TWO: count(who + "-2", on(image, cpus=2, words=" -- clock"), folder)[CLOCK]}


def most(what, native, here):
    """What a line may be; None where there is no goal. A clock that is read without a system call costs less than one."""
    if what in CLOCKS:
        return here["getppid"] - 1
    if what in MOST_MORE:
        return native[what] + MOST_MORE[what]
    return int(native[what] * MOST_TIMES[what]) if what in MOST_TIMES else None


def missed(native, here):
    """The lines above their goals: what, how much it is, how much it may be."""
    limits = {what: most(what, native, here) for what in here}
    return [(what, here[what], limit) for what, limit in limits.items() if limit is not None and here[what] > limit]


def report(results):
    """The table; how many of Hearth's lines miss a goal."""
    native = results["native"]
    places = [place for place in results if place != "native"]
    print(f"{'instructions':28}{'native':>12}" + "".join(f"{place:>24}" for place in places))
    for what in results[places[0]]:
        alone = native.get(what)
        print(f"{what:28}{'-' if alone is None else format(alone, ','):>12}" +
              "".join(f"{results[place][what]:>16,}" + (f"{results[place][what] / alone:>8.2f}" if alone else " " * 8) for place in places))
    misses = [(place, *miss) for place in places if place.startswith("Hearth") for miss in missed(native, results[place])]
    for place, what, value, limit in misses:
        print(f"missed: {place}, {what}: {value:,}, may be {limit:,}")
    return len(misses)


def linux():
    images = {"Xen": ("xen", measure.debian_xen()), "Hearth": ("hearth", machine.hypervisor())}
    commands.say("booting Linux natively, as Domain 0 and as a guest of each hypervisor, under instruction counting (a quarter of an hour)")
    with measure.folder_with("work") as folder, concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = {"native": pool.submit(count, "native", native, folder)}
        jobs |= {f"{name}, Domain 0": pool.submit(domain0, *image, folder) for name, image in images.items()}
        jobs |= {f"{name}, guest": pool.submit(guests, *image, folder) for name, image in images.items()}
        results = {place: job.result() for place, job in jobs.items()}
    misses = report(results)
    measure.keep("linux", {"unit": "executed instructions, 1 CPU unless it says two", "results": results})
    return 1 if misses else 0
