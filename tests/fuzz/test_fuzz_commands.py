"""Whole commands in processes of their own, as a shell starts them: the same property, seen from outside."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from cases import COMMANDS, count, fuzz
from guard import CPU_SECONDS, MEMORY, WALL_SECONDS, Broken, check, tree
from hypothesis import strategies as st
from sandboxes import Sandbox
from test_fuzz_files import READERS, damage_checkpoint, damage_part
from test_fuzz_texts import command_lines, leaves_the_rest_alone
from tiny import Outcome

_BASE = 2**30  # bytes that a process holds with torch imported, at most


def _run(line: tuple[str, ...], work: Path) -> Outcome:
    """Run `debiasctl LINE` and check its time and memory; what it may write is looked at by the caller."""
    out, err = work / "stdout", work / "stderr"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with open(out, "wb") as stdout, open(err, "wb") as stderr, open(os.devnull, "rb") as nothing:
        process = subprocess.Popen([sys.executable, "-m", "debiasctl", *map(os.fsencode, line)], stdin=nothing,
            stdout=stdout, stderr=stderr, cwd=work, env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (4 * CPU_SECONDS,) * 2),)  # fmt: skip
        try:
            process.wait(WALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise Broken(f"{line} took more than {WALL_SECONDS} s") from error
    return Outcome(process.returncode, out.read_text(errors="replace"), err.read_text(errors="replace"))


@fuzz(1.0, total=COMMANDS, data=st.data())
def test_a_whole_command_ends_as_promised(sandbox: Sandbox, data: st.DataObject) -> None:
    sandbox.renew()
    kind = data.draw(st.sampled_from(("option", "option", "part", "checkpoint")))
    if kind == "option":
        line = data.draw(command_lines().filter(leaves_the_rest_alone))
    else:
        run = sandbox.home / "runs" / "a"
        if kind == "part":
            damage_part(data, run)
        else:
            damage_checkpoint(data, run / "checkpoints" / "00000004")
        line = data.draw(st.sampled_from(READERS))
    before = tree(sandbox.home.parent)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = check(_run(line, sandbox.work))
    count(f"whole commands, {line[0]}", outcome.code)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    if (spent := now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) > CPU_SECONDS:
        raise Broken(f"{line} took {spent:.0f} s of computing")
    if now.ru_maxrss * 1024 > MEMORY + _BASE:
        raise Broken(f"{line} took {now.ru_maxrss / 2**20:.1f} GiB")
    after = tree(sandbox.home.parent)
    outside = [
        path for path in before.keys() ^ after.keys() if not path.startswith((str(sandbox.home), str(sandbox.work)))
    ]
    if outside:
        raise Broken(f"{line} wrote outside: {outside[:3]}")
    runs = str(sandbox.home / "runs")
    if outcome.code and (lost := [path for path in before.keys() - after.keys() if path.startswith(runs)]):
        raise Broken(f"{line} was refused, and yet these are gone: {lost[:3]}")
