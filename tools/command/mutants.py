"""./hearth test mutants: Hearth with one check removed at a time. The adversarial case that tests/mutants/ names must notice; a mutant that it
does not notice is a test that cannot fail, or a check that nobody needs."""
import contextlib
import os
import re
import shutil
import subprocess
import time
import tomllib

import commands
import machine
from machine import BUILD, ROOT

TREE = os.path.join(BUILD, "mutants/tree")
FINE = re.compile(r"^GUEST \w+: ok$", re.M)


def listed():
    with open(os.path.join(ROOT, "tests/mutants/mutants.toml"), "rb") as file:
        return tomllib.load(file)["mutant"]


def times_there(mutant):
    path = os.path.join(ROOT, mutant["file"])
    if not os.path.exists(path):
        return 0
    with open(path, encoding="utf-8") as file:
        return file.read().count(mutant["search"])


def title(number, mutant):
    return f"mutant {number}, {mutant['file']}: {mutant['search'].strip().splitlines()[0][:60]}"


def case_exists(mutant):
    guest, case = mutant["noticed_by"].split(".")
    path = os.path.join(ROOT, "tests/guests/attacks", guest + ".cpp")
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return f'"{case}"' in file.read()


def check_that_all_match():
    """A mutant whose place is gone, or is no longer the only one, says nothing any more; nor one whose case is gone."""
    amiss = []
    for number, mutant in enumerate(listed(), 1):
        if (times := times_there(mutant)) != 1:
            amiss.append(f"{title(number, mutant)} (stands there {times} times)")
        if not case_exists(mutant):
            amiss.append(f"{title(number, mutant)} (there is no case {mutant['noticed_by']})")
    if amiss:
        raise commands.Failure("\n".join(["tests/mutants/mutants.toml has to follow the sources:", *amiss]))


def put(path, text):
    """Writes only what differs, so that little is compiled again."""
    if not os.path.exists(path) or open(path, "rb").read() != text:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text)


def copy_tree():
    """The tree as it is, in build/mutants/tree."""
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "src", "tools", "tests/guests",
                            "CMakeLists.txt", "CMakePresets.json"], check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    for name in names:
        source, target = os.path.join(ROOT, name), os.path.join(TREE, name)
        if os.path.exists(source):
            put(target, open(source, "rb").read())
            shutil.copymode(source, target)
    os.makedirs(os.path.join(TREE, "build"), exist_ok=True)
    if not os.path.islink(os.path.join(TREE, "build/decompress")):
        os.symlink(os.path.join(BUILD, "decompress"), os.path.join(TREE, "build/decompress"))
    if not os.path.exists(os.path.join(TREE, "build/hypervisor/build.ninja")):
        commands.quietly(["cmake", "--preset", "hypervisor", "-DHEARTH_WHOLE_PROGRAM=OFF"], "configure-mutants", "cmake", cwd=TREE)


def build(what):
    commands.quietly(["cmake", "--build", os.path.join(TREE, "build/hypervisor"), "--target", "image", "-j2"], "build-mutants", f"building {what}")


def outcome(noticed_by, cpus=2, seconds=60):
    """"fine", "noticed", or "inconclusive": then the case did not even begin, which shows nothing of it."""
    guest, case = noticed_by.split(".")
    log = os.path.join(BUILD, "logs/mutant.log")
    with machine.Machine(log=log, kernel=f"{BUILD}/guests/{guest} case={case}", initrd="", disk="none", net="none", memory=512, cpus=cpus,
                         image=os.path.join(TREE, "build/hearth"), cmdline="dom0_max_vcpus=4", extra=["-no-reboot"]) as dom0:
        with contextlib.suppress(machine.MachineError):  # a hang is noticed, too
            dom0.wait_end(timeout=seconds)
        if FINE.search(dom0.text):
            return "fine"
        return "noticed" if f"CASE {case} (" in dom0.text else "inconclusive"


def test_mutants(tally):
    commands.configure_and_build("hypervisor")
    check_that_all_match()
    copy_tree()
    build("Hearth")
    for case in sorted({mutant["noticed_by"] for mutant in listed()}):
        if (found := outcome(case)) != "fine":
            raise commands.Failure(f"{case} is {found} on Hearth as it is")
    for number, mutant in enumerate(listed(), 1):
        begun = time.monotonic()
        path = os.path.join(TREE, mutant["file"])
        whole = open(os.path.join(ROOT, mutant["file"]), encoding="utf-8").read()
        name = title(number, mutant)
        put(path, whole.replace(mutant["search"], mutant["replace"]).encode())
        try:
            build(name)
            found = outcome(mutant["noticed_by"], mutant.get("cpus", 2))
            tally.add(int(found == "noticed"), int(found != "noticed"), f"{name} ({mutant['noticed_by']})", time.monotonic() - begun,
                      {"noticed": "", "fine": ": not noticed", "inconclusive": ": the case did not begin"}[found])
        except commands.Failure as failure:
            tally.add(0, 1, f"{name} ({failure})", time.monotonic() - begun)
        finally:
            put(path, whole.encode())
