"""What each ./hearth command does."""
import contextlib
import ctypes
import glob
import hashlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import machine
from machine import BUILD, DOM0, ROOT

PACKAGES = """
    clang-19 lld-19 llvm-19 clang-tidy-19 clang-format-19 libc++-19-dev libclang-rt-19-dev
    cmake ninja-build libgtest-dev libgmock-dev libxen-dev dpkg-dev
    qemu-system-x86 ovmf seabios bochs
    mmdebstrap fakeroot uidmap e2fsprogs
    grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools
    busybox-static cpio gzip xz-utils lz4 zstd python3 python3-pytest ca-certificates
""".split()


PR_SET_PDEATHSIG = 1  # prctl(2)


class Failure(Exception):
    """Something that the user is told in one line: cause and next step."""


def say(text):
    print(f"hearth: {text}", file=sys.stderr, flush=True)


def quietly(command, log, what, advice="", **more):
    """Runs a command with its output in a log under build/, shown only when it fails."""
    path = os.path.join(BUILD, "logs", log + ".log")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **more).returncode
    if status != 0:
        with open(path, errors="replace") as file:
            sys.stderr.write("".join(file.readlines()[-40:]))
        raise Failure(f"{what} failed (the whole log: {os.path.relpath(path, ROOT)}). {advice}".rstrip())


# Set-up

def setup(_=None):
    os.makedirs(BUILD, exist_ok=True)
    stamp = os.path.join(BUILD, "setup.stamp")
    wanted = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return 0
    advice = "Hearth builds on Debian 12, as root or with sudo; check the network and apt's sources."
    if not shutil.which("dpkg-query"):
        raise Failure(f"there is no dpkg here. {advice}")
    status = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Status}\n", *PACKAGES], capture_output=True, text=True)
    installed = {line.split()[0] for line in status.stdout.splitlines() if line.endswith(" installed")}
    missing = [package for package in PACKAGES if package not in installed]
    if missing:
        say(f"installing {len(missing)} packages (some minutes on a bare machine): {' '.join(missing)}")
        root = [] if os.getuid() == 0 else ["sudo"]
        apt = root + ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
        quietly(apt + ["update"], "apt-update", "apt-get update", advice)
        quietly(apt + ["install", "-y", "--no-install-recommends", *missing], "apt-install", "apt-get install", advice)
    with open(stamp, "w") as file:
        file.write(wanted)
    return 0


# Building

def configure(preset):
    setup()
    folder = os.path.join(BUILD, preset)
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        say(f"configuring {preset} (fetches the sources of the decompressors once)")
        quietly(["cmake", "--preset", preset], f"configure-{preset}", "cmake")
    return folder


def configure_and_build(preset, targets=()):
    folder = configure(preset)
    say(f"building {preset}")
    goal = ["--target", *targets] if targets else []
    quietly(["cmake", "--build", folder, *goal], f"build-{preset}", "the build")
    return folder


def build(options):
    configure_and_build(options.preset)
    return 0


def plugin(name):
    """A plugin for QEMU, built."""
    source, target = os.path.join(ROOT, f"tools/emulator/{name}.c"), os.path.join(BUILD, f"emulator/{name}.so")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    quietly(["clang-19", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-o", target, source],
            f"plugin-{name}", "the plugin's build")
    return target


def dom0_image():
    setup()
    if subprocess.run([os.path.join(ROOT, "tools/image/build")], stdin=subprocess.DEVNULL).returncode != 0:
        raise Failure("Domain 0's disk image could not be made; the reason is above")


def everything():
    """What a boot needs; the hypervisor is not built when HEARTH_IMAGE names another."""
    if machine.is_hearth():
        configure_and_build("hypervisor")
    elif not os.path.exists(machine.hypervisor()):
        raise Failure(f"HEARTH_IMAGE names {machine.hypervisor()}, which does not exist")
    dom0_image()


MENU = """set timeout=0
set default=0
serial --unit=0 --speed=115200
terminal_output serial console
menuentry "Debian 12 on Hearth" {{
    multiboot2 /boot/hearth {hypervisor}
    module2 /boot/vmlinuz {dom0}
    module2 /boot/initrd
}}
"""


def make_iso(path, hypervisor_words, dom0_words, initrd=DOM0 + "/initrd", kernel=DOM0 + "/vmlinuz"):
    """A GRUB image for BIOS and UEFI. GRUB leaves the file's name out, so the words are the command line."""
    tree = path + ".tree"
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "boot/grub"))
    for source, name in [(machine.hypervisor(), "hearth"), (kernel, "vmlinuz"), (initrd, "initrd")]:
        shutil.copy(source, os.path.join(tree, "boot", name))
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as file:
        file.write(MENU.format(hypervisor=hypervisor_words, dom0=dom0_words))
    quietly(["grub-mkrescue", "-o", path, tree], "iso", "grub-mkrescue")
    shutil.rmtree(tree)
    return path


def iso(options):
    everything()
    path = make_iso(os.path.join(BUILD, "hearth.iso"),
                    f"dom0_mem=max:1024M console=com1,vga com1=115200,8n1 {options.cmdline}".strip(),
                    machine.dom0_words("virtio", options.dom0_cmdline))
    say(f"{os.path.relpath(path)}: {os.path.getsize(path) >> 20} MiB; boots BIOS and UEFI machines, serial console at 115200 baud")
    return 0


# Demo

def kept_disk():
    """The disk image of --keep, which no other command uses: a copy, made once."""
    path = os.path.join(BUILD, "kept.img")
    if not os.path.exists(path):
        subprocess.run(["cp", "--sparse=always", DOM0 + "/disk.img", path + ".new"], check=True)
        os.rename(path + ".new", path)
    say(f"the disk is {os.path.relpath(path)}; without it, the next --keep starts afresh")
    return path


def demo(options):
    everything()
    guests = options.guests if options.guests is not None else 0 if options.run is not None else 2
    if guests and options.disk != "none":
        options.dom0_cmdline = f"{options.dom0_cmdline} hearth.guests={guests}".strip()
        options.cmdline = f"dom0_mem={options.memory // 2}M {options.cmdline}".strip()
    chosen = dict(cpus=options.cpus, memory=options.memory, cmdline=options.cmdline, dom0_cmdline=options.dom0_cmdline,
                  net=options.net, disk=options.disk, boot=options.boot)
    if options.keep:
        chosen |= {"keep": True, "disk_image": kept_disk()}
    if options.boot != "kernel":
        chosen["iso"] = make_iso(os.path.join(BUILD, "demo.iso"),
                                 f"{machine.default_options(options.memory)} {options.cmdline}".strip(),
                                 machine.dom0_words(options.disk, options.dom0_cmdline))
    if options.run is not None:
        return demo_run(options, chosen)

    say("starting QEMU (emulation: Domain 0 takes half a minute, each guest as long); `poweroff` ends it, control-A x at once")
    state = os.path.join(BUILD, "demo.vars")
    if options.boot == "uefi":
        chosen["firmware_state"] = shutil.copy(machine.OVMF % "VARS", state)
    command = machine.qemu_command(**chosen, extra=[*machine.debian_disks(1), "-chardev", "stdio,mux=on,id=serial,signal=off", "-serial", "chardev:serial"])
    command[command.index("-monitor") + 1] = "chardev:serial"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # control-C belongs to Domain 0
    process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
    try:
        return process.wait(options.timeout or None)
    except subprocess.TimeoutExpired:
        raise Failure(f"still running after {options.timeout} s, as --timeout says") from None
    finally:
        process.terminate()  # not killed, or the terminal would stay as QEMU has set it
        process.wait()


def demo_run(options, chosen):
    log = os.path.join(BUILD, "logs/demo.log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    say(f"booting Domain 0 (half a minute; serial log in {os.path.relpath(log)})")
    end = time.monotonic() + (options.timeout or 86400)
    left = lambda: max(1, end - time.monotonic())
    show = lambda text: (sys.stdout.write(text), sys.stdout.flush())
    try:
        with machine.Machine(log=log, debian_guests=1, **chosen) as dom0:
            dom0.wait_ready(timeout=min(left(), 600))
            status, _ = dom0.run(options.run, timeout=left(), live=show)
            dom0.poweroff(timeout=min(left(), 120))
            return status
    except machine.MachineError as error:
        raise Failure(str(error)) from None


# Measuring

def bench(options):
    import measure
    import measure_fair
    import measure_guests
    import measure_io
    import measure_isolation
    import measure_linux
    import measure_paths
    import measure_switch
    # At once: Python would wait until each machine is done. QEMU ends with this process.
    signal.signal(signal.SIGINT, lambda *_: (machine.forget_state(), os._exit(130)))
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)  # for their logs
    of_guests = {"fair": measure_fair.fair, "paths": lambda: measure_paths.paths(options), "switch": measure_switch.switch}
    if options.what in of_guests:
        configure_and_build("hypervisor")
        return of_guests[options.what]()
    everything()
    return {"boot": measure.boot, "create": measure_guests.create, "io": measure_io.io, "isolation": measure_isolation.isolation, "linux": measure_linux.linux}[options.what]()


# Tests

class Tally:
    def __init__(self):
        self.passed, self.failed, self.notes = 0, 0, []

    def add(self, passed, failed, name, seconds, note=""):
        self.passed += passed
        self.failed += failed
        line = f"{'ok  ' if not failed else 'FAIL'} {name}: {passed} passed, {failed} failed ({seconds:.0f} s){note}"
        print(line, flush=True)
        self.notes.append(line)

    def include(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.notes += other.notes

    def step(self, name, action):
        begun = time.monotonic()
        try:
            note = action() or ""
            self.add(1, 0, name, time.monotonic() - begun, note)
        except (Failure, machine.MachineError) as failure:
            print(failure, flush=True)
            self.add(0, 1, name, time.monotonic() - begun)


def junit_totals(path):
    """(passed, failed, skipped) of a JUnit report, as GoogleTest and pytest write it."""
    from xml.etree import ElementTree
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def reported(tally, name, command, report, **more):
    """Runs a test program that writes a JUnit report; how many failed."""
    begun = time.monotonic()
    if os.path.exists(report):
        os.remove(report)
    status = subprocess.run(command, stdin=subprocess.DEVNULL, **more).returncode
    try:
        passed, failed, skipped = junit_totals(report)
    except (OSError, SyntaxError):
        passed, failed, skipped = 0, 0, 0
    if status != 0 and not failed:
        failed = 1  # died, or found nothing to run
    tally.add(passed, failed, name, time.monotonic() - begun, f", {skipped} skipped" if skipped else "")
    return failed


def build_for(tally, name, preset):
    """The folder with what was built; None when that failed, which the tally has."""
    try:
        return configure_and_build(preset)
    except Failure as failure:
        print(failure)
        return tally.add(0, 1, f"{name} (build)", 0)


def test_hosted(tally, name, preset):
    folder = build_for(tally, name, preset)
    if not folder:
        return
    report = os.path.join(BUILD, f"logs/{name}.xml")
    # CTest runs each test in a process of its own, on all CPUs.
    quiet = {"stdout": open(os.path.join(BUILD, f"logs/{name}.log"), "w")}
    failed = reported(tally, name, ["ctest", "--test-dir", folder, "-j", str(os.cpu_count()), "--output-on-failure",
                                    "--no-tests=error", "--output-junit", report, "--timeout", "1800"], report, **quiet)
    if failed:
        subprocess.run(["ctest", "--test-dir", folder, "--rerun-failed", "--output-on-failure"], stdin=subprocess.DEVNULL)


def sources():
    return sorted(path for suffix in ("cpp", "h") for folder in ("src", "tests", "bench")
                  for path in glob.glob(f"{ROOT}/{folder}/**/*.{suffix}", recursive=True))


def test_checks(tally):
    import mutants
    tally.step("checks: layers", lambda: quietly(["tools/check-layers"], "check-layers", "tools/check-layers"))
    tally.step("checks: format", lambda: quietly(["clang-format-19", "--dry-run", "-Werror", *sources()], "format",
                                                 "clang-format", "Run: clang-format-19 -i on the files named."))
    tally.step("checks: mutants", mutants.check_that_all_match)

    def image():
        configure_and_build("hypervisor")
        quietly(["tools/check-image"], "check-image", "tools/check-image")
    tally.step("checks: image", image)


def test_tidy(tally):
    files = [path for path in sources() if path.startswith(ROOT + "/src/") and path.endswith(".cpp") and "/arch/host/" not in path]
    tally.step("tidy", lambda: quietly(["run-clang-tidy-19", "-p", configure("hypervisor"), "-quiet", "-j", str(os.cpu_count()), *files],
                                       "tidy", "clang-tidy"))


def test_bench_paths(tally):
    def check():
        import measure_paths
        configure_and_build("hypervisor")
        measure_paths.check()
    tally.step("bench paths", check)


FUZZ_SECONDS, STEPS = 10, 500_000  # each, in a run of everything
HUNT_SECONDS = 60  # when asked for by name


def fresh_seeds(hunt):
    """For ever. A run of everything has seeds of its own for each state of the sources, so that it says the same of the
    same state whoever runs it; a hunt draws them."""
    state = hashlib.sha256()
    for path in sources():
        with open(path, "rb") as file:
            state.update(file.read())
    generator = random.Random(None if hunt else state.digest())
    while True:
        yield generator.randrange(1, 1 << 32)


def run_beside_each_other(tally, programs):
    """As many at once as there are CPUs: (name, command, variables, what to note of the output)."""
    waiting, running = list(programs), []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            name, command, variables, note = waiting.pop(0)
            log = open(os.path.join(BUILD, f"logs/{name.replace(': ', '-')}.log"), "w+")
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **variables})
            running.append((name, process, log, time.monotonic(), note))
        time.sleep(0.2)
        for one in [one for one in running if one[1].poll() is not None]:
            running.remove(one)
            name, process, log, begun, note = one
            log.seek(0)
            text = log.read()
            if process.returncode:
                print(text[-4000:])
            tally.add(*((1, 0) if process.returncode == 0 else (0, 1)), name, time.monotonic() - begun, note(text))


def test_fuzz(tally, hunt):
    folder = build_for(tally, "fuzz", "fuzz")
    if not folder:
        return
    seeds = fresh_seeds(hunt)

    def program(name):
        found = os.path.join(BUILD, "corpus", name)
        os.makedirs(found, exist_ok=True)
        corpus = glob.glob(f"{ROOT}/tests/corpus/{name.removesuffix('_fuzzer')}")
        # All of the corpus runs at least once; what is found stays under build/.
        seconds = HUNT_SECONDS if hunt else FUZZ_SECONDS
        return (f"fuzz: {name}", [os.path.join(folder, name), f"-max_total_time={seconds}", f"-seed={next(seeds)}", "-timeout=20",
                                  "-print_final_stats=1", f"-artifact_prefix={found}-", found, *corpus], {}, note)

    def note(text):
        runs = [line.split()[-1] for line in text.splitlines() if "number_of_executed_units" in line]
        return f", {runs[0]} runs" if runs else ""

    run_beside_each_other(tally, [program(os.path.basename(path)[:-4]) for path in sorted(glob.glob(f"{ROOT}/tests/fuzz/*.cpp"))])


def test_steps(tally, hunt):
    """Guests that ask for anything, each CPU with a seed of its own."""
    folder = build_for(tally, "steps", "hosted")
    if not folder:
        return

    def program(seed):
        length = {"HEARTH_SECONDS": str(HUNT_SECONDS)} if hunt else {"HEARTH_STEPS": str(STEPS)}
        return (f"steps: HEARTH_SEED={seed}", ["timeout", "--foreground", "3600", os.path.join(folder, "hypercall_steps")],
                {"HEARTH_SEED": str(seed), **length}, lambda text: f", {text.splitlines()[-1]}")

    run_beside_each_other(tally, [program(seed) for seed in itertools.islice(fresh_seeds(hunt), os.cpu_count() or 1)])


def test_system(tally, pattern, slow):
    try:
        everything()
    except Failure as failure:
        print(failure)
        return tally.add(0, 1, "system (set-up)", 0)
    report = os.path.join(BUILD, "logs/system.xml")
    command = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "--show-capture=stdout", "-rP",
               "--durations=40", f"--basetemp={BUILD}/pytest", f"--junitxml={report}", "tests/system"]
    command += ["-k", pattern] if pattern else []
    command += ["--slow"] if slow else []
    reported(tally, "system", command, report, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


# What boots nothing, and keeps to no time.
WITHOUT_MACHINES = {
    "unit": lambda tally, _: test_hosted(tally, "unit", "hosted"),
    "race": lambda tally, _: test_hosted(tally, "race", "race"),
    "steps": test_steps,
    "tidy": lambda tally, _: test_tidy(tally),
}


@contextlib.contextmanager
def beside_the_rest(tally):
    """All WITHOUT_MACHINES, by what an emulated machine leaves of the CPUs; most keep one of them busy, if that."""
    def work():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Of a session of its own: Linux shares CPUs out to sessions first, whatever the priorities in them are (sched_autogroup).
        os.setsid()
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
            group.write("19")
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        for run in [*WITHOUT_MACHINES.values(), lambda tally, _: build_for(tally, "fuzz", "fuzz")]:
            own = Tally()
            run(own, False)
            results.send(own)
        say("the tests without machines are done")

    receiver, results = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    results.close()
    try:
        yield
        say("waiting for the tests without machines")
        with contextlib.suppress(EOFError):
            while True:
                tally.include(receiver.recv())
        process.join()
        if process.exitcode:
            tally.add(0, 1, "tests without machines (they died)", 0)
    finally:
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)


def test(options):
    setup()
    os.makedirs(os.path.join(BUILD, "logs"), exist_ok=True)
    begun, tally = time.monotonic(), Tally()
    kinds = (*WITHOUT_MACHINES, "checks", "bench", "fuzz", "system", "coverage", "mutants")
    chosen = options.pattern
    if chosen in ("", "checks"):
        test_checks(tally)
    if chosen in ("", "bench"):
        test_bench_paths(tally)
    if chosen == "":
        with beside_the_rest(tally):
            test_system(tally, "", options.slow)
    elif chosen in WITHOUT_MACHINES:
        WITHOUT_MACHINES[chosen](tally, True)
    if chosen in ("", "fuzz"):
        test_fuzz(tally, hunt=chosen == "fuzz")
    if chosen == "coverage":
        import coverage
        tally.step("coverage", coverage.test_coverage)
    if chosen == "mutants":
        import mutants
        tally.step("mutants: set-up", lambda: mutants.test_mutants(tally))
    if chosen == "system" or chosen not in ("", *kinds):
        test_system(tally, "" if chosen in kinds else chosen, options.slow)
    print(f"\nSummary after {time.monotonic() - begun:.0f} s:")
    print("\n".join(tally.notes))
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 1 if tally.failed else 0
