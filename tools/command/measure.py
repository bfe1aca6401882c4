"""./hearth bench: executed instructions, counted by QEMU, under Hearth and under Debian's Xen. See bench/README.md."""
import concurrent.futures
import contextlib
import glob
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import commands
import debugger
import machine
from machine import BUILD, DOM0, ROOT

PM_TIMER_HZ = 3579545
XEN_PACKAGE = "xen-hypervisor-4.17-amd64"


def xen_entry(path):
    """Where a PV kernel begins: its note ENTRY (type 1)."""
    notes = subprocess.run(["llvm-readelf-19", "--notes", path], check=True, capture_output=True, text=True).stdout
    found = re.search(r"Xen\s+0x00000008\s+(?:NT_VERSION \(version\)|Unknown note type: \(0x00000001\))\s+description data: ((?:[0-9a-f]{2} ?){8})", notes)
    if not found:
        raise commands.Failure(f"{path} has no Xen entry note")
    return int.from_bytes(bytes.fromhex(found[1]), "little")


def debian_xen():
    """Debian's own hypervisor, unpacked below build/."""
    folder = os.path.join(BUILD, "xen")
    path = os.path.join(folder, "xen")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        commands.say(f"fetching {XEN_PACKAGE}")
        commands.quietly(["apt-get", "-q", "download", XEN_PACKAGE], "xen-download", f"apt-get download {XEN_PACKAGE}",
                         "Is Debian 12 in apt's sources, and apt-get update done?", cwd=folder)
        package = max(glob.glob(folder + "/*.deb"), key=os.path.getmtime)
        commands.quietly(["dpkg-deb", "-x", package, folder + "/root"], "xen-unpack", "dpkg-deb -x")
        packed = glob.glob(folder + "/root/boot/xen-*.gz")[0]
        shutil.copy(packed, folder + "/xen.gz")
        with gzip.open(packed) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
    return path


def measure_boot(name, image, kernel):
    """Instructions from the hypervisor's first to Domain 0's first."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(BUILD, f"bench/{name}.log")
        command = machine.qemu_command(cpus=1, memory=1024, image=image, kernel=kernel, disk="none", net="none", icount=True,
                                       cpu="max,smap=off,rdrand=off", extra=[
                                           "-serial", f"file:{log}", "-seed", "1", "-rtc", "base=2020-01-01,clock=vm",
                                           *debugger.options(folder)])
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            machine_at = debugger.Debugger(folder)
            machine_at.run_to(debugger.elf_entry(image))
            ticks = machine_at.run_to(xen_entry(DOM0 + "/vmlinux"))
        finally:
            process.kill()
            process.wait()
    with open(log, errors="replace") as file:
        text = file.read()
    return {
        "instructions": round(ticks * 1e9 / PM_TIMER_HZ),
        # In the hypervisor's own words; under instruction counting a tick of the TSC is an instruction.
        "own_counts": {what: int(count) for what, count in
                       re.findall(r"^\(HEARTH\) (?:\[[^]]*\] )?(.*?) in (\d+) (?:instructions|TSC ticks)", text, re.M)},
        "console_characters": len(text),
    }


@contextlib.contextmanager
def folder_with(program):
    """A folder with bench/linux/PROGRAM.c, built, and `ramdisk`, which has it as all of a guest's user land."""
    with tempfile.TemporaryDirectory() as folder:
        source = f"bench/linux/{program}.c"
        commands.quietly(["clang-19", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", os.path.join(folder, program), os.path.join(ROOT, source)],
                         f"bench-{program}", f"the build of {source}")
        machine.ramdisk_with(folder, program)
        yield folder


def on_each(count, *more):
    """What count(name, image, *more) returns for each hypervisor, both at the same time: by its name."""
    images = {"hearth": machine.hypervisor(), "xen": debian_xen()}
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = {who: pool.submit(count, who, image, *more) for who, image in images.items()}
        return {who: job.result() for who, job in jobs.items()}


def keep(what, figures):
    """In build/bench/WHAT.json, which it names."""
    path = os.path.join(BUILD, f"bench/{what}.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(figures, file, indent=2)
    print(f"\n{os.path.relpath(path)}")


def what_a_guest_says(kind, name, image, timeout, **options):
    """The serial log of the guest bench/KIND.cpp as Domain 0 on a hypervisor, under instruction counting."""
    log = os.path.join(BUILD, f"bench/{kind}-{name}.log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with machine.Machine(log=log, image=image, kernel=f"{BUILD}/guests/{kind}", initrd="", disk="none", net="none", icount=True, cpu="max,smap=off,rdrand=off",
                         extra=["-no-reboot", "-seed", "1", "-rtc", "base=2020-01-01,clock=vm"], **options) as guest:
        guest.wait_for(rf"^GUEST {kind}: ok$", timeout=timeout)
        return guest.text


def measure_memory(name, image):
    """What is free and what Domain 0 has when it idles at a shell, in KiB: the hypervisor is asked by its debug key m, Domain 0
    for the size that it believes to have."""
    log = os.path.join(BUILD, f"bench/memory-{name}.log")
    with machine.Machine(log=log, cpus=1, memory=1024, image=image, disk="none", net="none") as dom0:
        dom0.wait_ready()
        current = int(dom0.check("cat /sys/devices/system/xen_memory/xen_memory0/info/current_kb"))
        dom0.send("\x01\x01\x01")
        dom0.wait_for(r"^\((XEN|HEARTH)\).*\n", timeout=30)
        dom0.send("m")
        free = dom0.wait_for(r"^\((?:XEN|HEARTH)\) .*?(?:Dom heap: (\d+)kB free|memory: (\d+) of \d+ frames free)", timeout=30)
        ram = re.search(r"System RAM: \d+MB \((\d+)kB\)", dom0.text)
    return {"free": int(free[1]) if free[1] else int(free[2]) * 4, "domain0": current, "machine": int(ram[1]) if ram else None}


def boot():
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    images = {"hearth": machine.hypervisor(), "xen": debian_xen()}
    kernels = {"stock kernel": DOM0 + "/vmlinuz", "the same, unpacked": DOM0 + "/vmlinux"}
    commands.say("booting each hypervisor three times, twice under instruction counting (about two minutes)")
    jobs, results = {}, {who: {} for who in images}
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for who, image in images.items():
            for what, kernel in kernels.items():
                jobs[who, what] = pool.submit(measure_boot, f"boot-{who}-{os.path.basename(kernel)}", image, kernel)
            jobs[who, "memory"] = pool.submit(measure_memory, who, image)
    failures = []
    for (who, what), job in jobs.items():
        try:
            results[who][what] = job.result()
        except (commands.Failure, debugger.DebuggerError, machine.MachineError, OSError) as failure:
            results[who][what] = {"error": str(failure)}
            failures.append(f"{who}, {what}: {failure}")
    for who, image in images.items():
        with open(image, "rb") as file:
            content = file.read()
        results[who]["image_bytes"] = len(content)
        results[who]["image_bytes_gzipped"] = len(gzip.compress(content, 9))
        results[who]["loaded_bytes"] = loaded_bytes(image)
    keep_what_is_left(results)
    report(results, kernels)
    keep("boot", {"unit": "executed instructions, 1 CPU, 1 GiB, from the hypervisor's first to Domain 0's first",
                  "image": images["hearth"], "results": results})
    for failure in failures:
        print(f"hearth: not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


def keep_what_is_left(results):
    """Memory that a hypervisor keeps: the machine's, as Xen reports it at start-up, less what is free and what Domain 0 has."""
    ram = results["xen"]["memory"].get("machine")
    for figures in results.values():
        memory = figures["memory"]
        if ram and "free" in memory:
            memory["kept_bytes"] = (ram - memory["free"] - memory["domain0"]) << 10


def loaded_bytes(image):
    """Memory that the loader fills: the sum of the ELF's loadable segments."""
    text = subprocess.run(["llvm-readelf-19", "-lW", image], check=True, capture_output=True, text=True).stdout
    return sum(int(size, 16) for size in re.findall(r"^\s+LOAD\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", text, re.M))


def report(results, kernels):
    def figure(who, *keys):
        value = results[who]
        for key in keys:
            value = value.get(key, "-")
            if value == "-":
                return value
        return f"{value:,}"

    rows = [(f"boot, {what}", [what, "instructions"]) for what in kernels]
    rows += [("image, bytes", ["image_bytes"]), ("image gzipped, bytes", ["image_bytes_gzipped"]), ("image loaded, bytes", ["loaded_bytes"]),
             ("memory kept at rest, bytes", ["memory", "kept_bytes"])]
    print(f"{'':28}{'Hearth':>18}{'Debian Xen':>18}")
    for title, keys in rows:
        print(f"{title:28}{figure('hearth', *keys):>18}{figure('xen', *keys):>18}")
