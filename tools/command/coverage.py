"""./hearth test coverage: which lines of src/ above arch/ the unit tests, the hostile guests and the fuzzers execute."""
import glob
import json
import os
import shutil
import subprocess

import commands
from machine import BUILD, ROOT

GOAL = 85  # percent of the lines
STEPS, FUZZ_RUNS = 200_000, 20_000


def execute(folder, profiles, seeds):
    environment = {**os.environ, "LLVM_PROFILE_FILE": os.path.join(profiles, "%4m.profraw")}

    def run(name, command, **more):
        commands.say(f"running {name}")
        commands.quietly(command, f"coverage-{name}", name, env={**environment, **more})

    run("tests", ["ctest", "--test-dir", folder, "-j", str(os.cpu_count()), "--timeout", "300"])
    run("hypercall_steps", [os.path.join(folder, "hypercall_steps")], HEARTH_SEED=str(next(seeds)), HEARTH_STEPS=str(STEPS))
    for fuzzer in sorted(glob.glob(f"{folder}/*_fuzzer")):
        name = os.path.basename(fuzzer)
        corpora = [f"{profiles}/found-{name}", *glob.glob(f"{ROOT}/tests/corpus/{name.removesuffix('_fuzzer')}")]
        os.makedirs(corpora[0])
        run(name, [fuzzer, f"-runs={FUZZ_RUNS}", f"-seed={next(seeds)}", "-max_total_time=60", *corpora])


def lines_of_files(folder, profiles):
    """Path below src/ -> (lines, lines executed)."""
    merged = os.path.join(profiles, "all.profdata")
    subprocess.run(["llvm-profdata-19", "merge", "-o", merged, *glob.glob(f"{profiles}/*.profraw")], check=True)
    programs = [os.path.join(folder, name) for name in ("hearth_tests", "hypercall_steps")] + glob.glob(f"{folder}/*_fuzzer")
    report = subprocess.run(["llvm-cov-19", "export", "-summary-only", f"-instr-profile={merged}", programs[0],
                             *(word for program in programs[1:] for word in ("-object", program))],
                            check=True, capture_output=True, text=True)
    found = {}
    for file in json.loads(report.stdout)["data"][0]["files"]:
        path = os.path.relpath(os.path.realpath(file["filename"]), os.path.join(ROOT, "src"))
        lines = file["summary"]["lines"]
        if not path.startswith(("..", "arch/")) and lines["count"]:
            found[path] = (lines["count"], lines["covered"])
    return found


def not_hosted(files):
    """What only the machine has, where system tests execute it: counted as not executed, by the lines that hold code."""
    tracked = subprocess.run(["git", "ls-files", "src/*.cpp"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    paths = [path for path in (name.removeprefix("src/") for name in tracked) if not path.startswith("arch/") and path not in files]

    def code_lines(path):
        with open(os.path.join(ROOT, "src", path)) as file:
            return sum(bool(line.strip()) and not line.strip().startswith("//") for line in file)

    return {path: (code_lines(path), 0) for path in paths}


def table(files):
    def row(name, chosen):
        count, covered = (sum(column) for column in zip(*chosen))
        return f"{name:14}{count:8}{covered:10}{100 * covered / count:8.1f} %"

    print(f"{'folder':14}{'lines':>8}{'executed':>10}")
    for folder in sorted({path.split("/")[0] for path in files}):
        print(row(folder, [lines for path, lines in files.items() if path.startswith(folder + "/")]))
    print(row("all", files.values()))
    for path in sorted(files, key=lambda path: files[path][1] - files[path][0])[:20]:
        print(f"not executed: {files[path][0] - files[path][1]:4} lines of {path}")


def test_coverage():
    folder = commands.configure_and_build("coverage")
    profiles = os.path.join(BUILD, "coverage/profiles")
    shutil.rmtree(profiles, ignore_errors=True)
    os.makedirs(profiles)
    execute(folder, profiles, commands.fresh_seeds(hunt=False))
    files = lines_of_files(folder, profiles)
    files |= not_hosted(files)
    table(files)
    count, covered = (sum(column) for column in zip(*files.values()))
    percent = 100 * covered / count
    if percent < GOAL:
        raise commands.Failure(f"{percent:.1f} % of the lines are executed; the goal is {GOAL} %. Each line: "
                               "llvm-cov-19 show -instr-profile=build/coverage/profiles/all.profdata build/coverage/hearth_tests")
    return f", {percent:.1f} % of the lines"
