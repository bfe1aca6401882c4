"""./hearth bench linux: what system calls, faults and processes of Linux cost natively, and in Domain 0 on each hypervisor. See bench/README.md."""
import concurrent.futures
import json
import os
import re
import subprocess
import tempfile

import commands
import machine
import measure
from machine import BUILD, DOM0, ROOT

MEMORY = 512  # MiB, and what Domain 0 has of it
DOMAIN0 = 320


def program(folder):
    target = os.path.join(folder, "work")
    commands.quietly(["clang-19", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", target, os.path.join(ROOT, "bench/linux/work.c")],
                     "linux-work", "the build of bench/linux/work.c")


def native(folder):
    """Linux without a hypervisor, in as much memory as Domain 0 has."""
    return ["-m", str(DOMAIN0), "-kernel", DOM0 + "/vmlinuz", "-append", "console=ttyS0 quiet rdinit=/work", "-initrd", folder + "/ramdisk"]


def on(image):
    def arguments(folder):
        return ["-m", str(MEMORY), "-kernel", image, "-append", f"dom0_mem={DOMAIN0}M console=com1 com1=115200,8n1",
                "-initrd", f"{DOM0}/vmlinux console=hvc0 quiet rdinit=/work,{folder}/ramdisk"]
    return arguments


def count(name, arguments, folder):
    log = os.path.join(BUILD, f"bench/linux-{name}.log")
    command = ["qemu-system-x86_64", "-machine", "q35", "-cpu", "max,smap=off,rdrand=off", "-smp", "1", "-accel", "tcg", "-icount", "shift=0,sleep=off",
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
    return {what: int(value) for what, value in re.findall(r"WORK (.*): (\d+)", text)}


def linux():
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    places = {"native": native, "xen": on(measure.debian_xen()), "hearth": on(machine.hypervisor())}
    commands.say("booting Linux three times under instruction counting (a minute or two)")
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        program(folder)
        machine.ramdisk_with(folder, "work")
        jobs = {who: pool.submit(count, who, arguments, folder) for who, arguments in places.items()}
        results = {who: job.result() for who, job in jobs.items()}
    path = os.path.join(BUILD, "bench/linux.json")
    with open(path, "w") as file:
        json.dump({"unit": "executed instructions, 1 CPU", "results": results}, file, indent=2)
    print(f"{'instructions':28}{'native':>12}{'Debian Xen':>12}{'Hearth':>12}{'Xen/native':>12}{'Hearth/native':>14}")
    for what, alone in results["native"].items():
        xen, hearth = results["xen"][what], results["hearth"][what]
        print(f"{what:28}{alone:>12,}{xen:>12,}{hearth:>12,}{xen / alone:>12.2f}{hearth / alone:>14.2f}")
    print(f"\n{os.path.relpath(path)}")
    return 0
