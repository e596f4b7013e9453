"""A function of one's own as a run: its likelihood is known in closed form, and all else measures it like any run."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from tiny import LOCATION, error_of, succeed

from debiasctl.data.load import load_data
from debiasctl.models.build import build_parameterization
from debiasctl.runs.store import find_run

DATA = "gaussian-mixture:image_size=8,channels=1,components=1,num=64"
DENOISER = Path(__file__).parents[1] / "builtin" / "models" / "gaussian_denoiser.py"
MEAN, DEVIATION = 0.2, 0.3
CASES = {"vp": "eps", "edm": "denoised", "flow": "flow"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DENOISER, "gauss.py")
    return tmp_path


def add(kind: str) -> None:
    predicts = CASES[kind].replace("denoised", "x0")
    contract = f'arguments={{"kind":"{kind}","predicts":"{predicts}"}},input={kind},predicts={CASES[kind]}'
    added = succeed("runs", "add-model", kind, f"python:factory=gauss:make,{contract},image_size=8,channels=1",
                    "--dataset", DATA, "--weighting", "debiased")  # fmt: skip
    assert "whatever uses it runs code of yours: gauss:make of" in added.err
    assert "its checkpoint is empty: what gauss:make gives is a function" in added.err


def closed_form(name: str) -> float:
    """Bits per dimension of the held-out images under the flow of a normal law, which is linear in each pixel."""
    spec = find_run(name).spec()
    process = build_parameterization(spec).process
    held_out = load_data(spec, LOCATION).heldout
    x0 = held_out.images(torch.arange(len(held_out))).double() / 127.5 - 1
    first, last = ((process.alpha[t].item(), process.sigma[t].item()) for t in (0, -1))
    before, after = ((alpha * DEVIATION) ** 2 + sigma**2 for alpha, sigma in (first, last))
    z = first[0] * (x0 - MEAN) / math.sqrt(before)
    level = (first[0] * 2 / 255) ** 2 / 12 / before * after  # the variance of a grey level's uniform noise, at the end
    nats = ((z * math.sqrt(after) + last[0] * MEAN).square() + level + math.log(2 * math.pi)) / 2
    nats -= math.log(after / before) / 2 + math.log(first[0])
    return nats.mean().item() / math.log(2) - math.log2(2 / 255)


@pytest.mark.parametrize("kind", CASES)
def test_a_closed_form_has_its_closed_likelihood_and_is_measured_like_any_run(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(kind)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    (found,) = json.loads(
        succeed("likelihood", kind, "--method", "ode", "--num", "16", "--steps", "20", "--json", "--device", "cpu").out
    )["likelihoods"]
    assert found["metrics"]["ode_bits_per_dim"]["value"] == pytest.approx(closed_form(kind), abs=2e-3)
    evaluated = json.loads(
        succeed(
            "evaluate", kind, "--steps", "2", "--num", "16", "--features", "pixels", "--json", "--device", "cpu"
        ).out
    )
    assert evaluated["evaluations"][0]["metrics"]["fd_pixels"]["value"] > 0
    only = ("--only", "existence,reasons") if kind == "vp" else ("--only", "reasons")
    analysed = succeed("analyze", kind, *only, "--num", "16", "--device", "cpu")
    assert "note: reasons: the network of run" in analysed.err
    assert "has no parameters to train" in analysed.err


def test_results_of_other_code_are_not_taken_for_those_of_this(caplog: pytest.LogCaptureFixture) -> None:
    add("vp")
    sample = ("sample", "vp", "--num", "4", "--steps", "2", "--device", "cpu", "--json")
    assert not json.loads(succeed(*sample).out)["reused"]
    code = Path("gauss.py").read_text()
    Path("gauss.py").write_text(code.replace("MEAN, DEVIATION = 0.2", "MEAN, DEVIATION = -0.7"))
    assert not json.loads(succeed(*sample).out)["reused"]
    assert "gauss.py has changed since the model was added" in caplog.text
    Path("gauss.py").write_text(code)
    assert json.loads(succeed(*sample).out)["reused"]


def test_a_function_cannot_be_trained_further(folder: Path) -> None:
    add("vp")
    backbone = find_run("vp").spec().model.backbone.ref
    message = error_of("train", DATA, "--backbone", str(backbone), "--init-from", "vp", "--steps", "1", code=2)
    assert "this network has no parameters to train" in message
    message = error_of("train", DATA, "--backbone", str(backbone), "--prediction", "v", "--steps", "1", code=2)
    assert "make a network of --prediction eps, not v" in message


def test_a_run_from_elsewhere_runs_no_code_that_was_not_named_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("vp")
    path = str(find_run("vp").path)
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path / "other"))
    succeed("runs", "show", path)
    sample = ("sample", path, "--num", "2", "--steps", "2", "--device", "cpu")
    assert "The run comes from elsewhere, and the code may do anything" in error_of(*sample, code=1)
    Path("gauss.py").rename("moved.py")  # trusted by its content too, wherever that is
    Path("here").mkdir()
    shutil.copy(DENOISER, "here/gauss.py")
    monkeypatch.chdir("here")
    assert "The run comes from elsewhere" in error_of(*sample, code=1)
    contract = 'arguments={"kind":"vp","predicts":"eps"},input=vp,predicts=eps'
    succeed("runs", "add-model", "mine", f"python:factory=gauss:make,{contract},image_size=8,channels=1")
    succeed(*sample)


def test_a_file_of_settings_runs_no_code_that_was_not_named_here() -> None:
    """Neither planning nor a sweep runs what a file alone names; the command's own settings name it for both."""
    Path("net.py").write_text(
        "import torch\nopen('ran', 'w').close()\n"
        "class Net(torch.nn.Conv2d):\n"
        "    def __init__(self):\n        super().__init__(1, 1, 3, padding=1)\n"
        "    def forward(self, x, t, labels=None):\n        return super().forward(x)\n"
    )
    code = "python:factory=net:Net,input=vp,predicts=eps"
    Path("spec.json").write_text(json.dumps({"model": {"backbone": code, "prediction": "eps"}}))
    Path("study.yaml").write_text(
        f"dataset: {DATA}\nsettings:\n  backbone: {code}\n  prediction: eps\n  steps: 1\n"
        "grid:\n  weighting: [constant, debiased]\n"
    )
    plan, study = ("train", DATA, "--spec", "spec.json", "--dry-run"), ("sweep", "study.yaml", "--dry-run")
    for command in (plan, study, (*plan, "--set", "model.backbone.options.arguments={}")):
        message = error_of(*command, code=1)
        assert "The settings come from a file, and the code may do anything" in message
    assert not Path("ran").exists()
    succeed("sweep", DATA, "--backbone", code, "--prediction", "eps", "--steps", "1", "--weighting",
            "constant,debiased", "--dry-run")  # fmt: skip
    for command in (plan, study):
        succeed(*command)


@pytest.mark.parametrize("named", ["Net", "net", "make"])
def test_a_network_that_cannot_be_traced_without_numbers_is_planned_and_trained(named: str) -> None:
    """Neither a factory that sets torch's default device, nor a forward that needs its numbers, is run without them."""
    Path("net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Conv2d):\n"
        "    def __init__(self):\n        super().__init__(1, 1, 3, padding=1)\n"
        "    def forward(self, x, t, labels=None):\n        return super().forward(x) * float(t.max())\n"
        "net = Net()\n"
        "def make():\n    torch.set_default_device('cpu')\n    return Net()\n"
    )
    command = ("train", DATA, "--backbone", f"python:factory=net:{named},input=vp,predicts=eps", "--prediction", "eps",
               "--schedule", "linear", "--steps", "1", "--batch-size", "2", "--device", "cpu")  # fmt: skip
    try:
        assert "activations unknown" in " ".join(succeed(*command, "--dry-run").out.split())
        succeed(*command, "--name", "trained")
        if named == "Net":  # of a long training, a step is measured in place of being counted
            long = ["12000" if word == "1" else word for word in command]
            assert "measuring how long a step takes here" in succeed(*long, "--dry-run").err
    finally:
        torch.set_default_device(None)
    assert find_run("trained").spec().model.backbone.name == "python"
