"""Models that are functions of the user's own: what they are given, what is made of them, and what goes wrong."""

import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
from gaussian_denoiser import DEVIATION, MEAN

from debiasctl import registry
from debiasctl.api import ExternalModel, ImageShape
from debiasctl.builtin.backbones import python, user_code
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import process_of
from debiasctl.errors import ModelError, PluginOptionsError, UsageError

EPS = "input=vp,predicts=eps,image_size=4"
CASES = [(kind, predicts) for kind, known in python.PREDICTS.items() for predicts in known]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory for users' code, of which nothing is left behind in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_code, "_LOADED", {})
    monkeypatch.setattr(python, "_SAID", set())
    return tmp_path


def read(options: str) -> ExternalModel:
    return registry.create("models", f"python:{options}").read()


def network_of(model: ExternalModel) -> torch.nn.Module:
    backbone = registry.create("backbones", {"name": model.backbone, "options": dict(model.backbone_options)})
    outputs = model.channels * (1 + model.learned_variance)
    shape = ImageShape(model.image_size, model.channels, outputs)
    network = backbone.build(shape, model.num_classes + model.null_class).eval()
    network.load_state_dict(dict(model.weights))
    return network


def write(text: str, name: str = "mine.py") -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(f"import torch\n{text}\n")


def function(body: str) -> str:
    """Read a model whose function has this body."""
    write(f"def make():\n    def call(x, t, labels):\n        {body}\n    return call")
    return f"factory=mine:make,{EPS}"


@pytest.mark.parametrize(("kind", "predicts"), CASES)
def test_every_contract_gives_the_closed_form(kind: str, predicts: str) -> None:
    shutil.copy(Path(__file__).with_name("gaussian_denoiser.py"), "mine.py")
    arguments = f'arguments={{"kind":"{kind}","predicts":"{predicts}"}}'
    model = read(f"factory=mine:make,{arguments},input={kind},predicts={predicts},image_size=4,channels=1")
    assert (model.weights, model.num_classes) == ({}, 0)
    schedule = registry.create("schedules", {"name": model.schedule, "options": dict(model.schedule_options)})
    parameterization = Parameterization(model.prediction, process_of(schedule), sigma_data=model.sigma_data)
    network = network_of(model)
    for t in (0.0, 300.25, 999.0):
        levels = parameterization.process.levels(torch.full((2,), t, dtype=torch.float64))
        alpha, sigma = (one.reshape(-1, 1, 1, 1) for one in (levels.alpha, levels.sigma))
        x_t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        found = parameterization.estimate(parameterization.run(network, x_t, levels, None), x_t, levels)
        away = (x_t - alpha * MEAN) / (alpha**2 * DEVIATION**2 + sigma**2)
        x0, eps = MEAN + alpha * DEVIATION**2 * away, sigma * away
        torch.testing.assert_close(found.v.double(), alpha * eps - sigma * x0, rtol=1e-3, atol=1e-3)
        if t < 999 or predicts != "eps":  # where alpha is small, eps says little of x0
            torch.testing.assert_close(found.x0.double(), x0, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("contract", "seen"),
    [
        ("input=vp,predicts=eps", [0, 500, 999]),
        ("input=edm,predicts=denoised", [0.002, 0.4, 80]),
        ("input=edm,predicts=x0,level=c_noise", [-1.5537, -0.2291, 1.0955]),
        ("input=flow,predicts=flow", [0.001, 0.501, 1]),
        ("input=flow,predicts=flow,level=1000s", [1, 501, 1000]),
    ],
)
def test_the_callable_gets_the_noise_level_that_was_declared(contract: str, seen: list[float]) -> None:
    write(
        "SEEN = []\ndef call(x, level, labels):\n"
        "    SEEN.append(level[0].item())\n    assert labels is None\n    return x * 0"
    )
    read(f"factory=mine:call,{contract},image_size=4")
    (module,) = user_code._LOADED.values()
    assert [float(one) for one in module.SEEN] == pytest.approx(seen, rel=2e-2)


def test_a_module_is_stored_and_its_state_comes_from_the_checkpoint() -> None:
    write(
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, width=1):\n"
        "        super().__init__()\n"
        "        self.a, self.b = torch.nn.Linear(1, width), torch.nn.Embedding(4, 3)\n"
        "    def forward(self, x, t, labels):\n"
        "        return x + self.a.weight.sum() + self.b(labels)[..., None, None]"
    )
    model = read(f'factory=mine:Net,arguments={{"width":5}},num_classes=3,null_class=true,{EPS}')
    assert sorted(model.weights) == ["network.a.bias", "network.a.weight", "network.b.weight"]
    assert model.weights["network.a.weight"].shape == (5, 1)
    assert (model.num_classes, model.null_class) == (3, True)
    assert "holds the 3 tensors of the module Net" in model.notes[1]
    network = network_of(model)
    x, t, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2), torch.tensor([0, 3])
    expected = model.weights["network.a.weight"].sum() + model.weights["network.b.weight"][labels]
    torch.testing.assert_close(network(x, t, labels)[..., 0, 0], expected)


def test_a_learned_variance_passes_through() -> None:
    write("def call(x, t, labels):\n    return torch.cat([x, x * 0 + 0.5], dim=1)")
    model = read(f"factory=mine:call,learned_variance=true,{EPS}")
    assert model.learned_variance
    out = network_of(model)(torch.ones(1, 3, 4, 4), torch.zeros(1))
    assert torch.equal(out, torch.cat([torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)], dim=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", r"its import failed \(ModuleNotFoundError: .*mine.py, line 2\)"),
        ("def make(:", r"its import failed \(SyntaxError"),
        ("import sys; sys.exit(3)", r"its import failed \(SystemExit: 3"),
        ("other = 1\ndef build(): pass", r"there is no 'make' in it. It has: build"),
        ("make = 3", "it is an int, which cannot be called"),
        ("def make():\n    raise ValueError('no weights')", r"the factory failed \(ValueError: no weights; .*line 3\)"),
        ("def make():\n    return 4", "it returned an int in place of a callable"),
        (
            "def make(width):\n    return width",
            r"the factory takes \(width\). Give it what it needs by the option arguments",
        ),
        ("def make():\n    return lambda x: x", r"\(x\) is no function of \(x_t, noise level, labels\)"),
    ],
)
def test_a_factory_that_fails_is_named(text: str, message: str) -> None:
    write(text)
    with pytest.raises(ModelError, match=f"mine:make of .*mine.py: .*{message}"):
        read(f"factory=mine:make,{EPS}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('bad')", r"its call with x_t \[2, 3, 4, 4\] failed \(KeyError: 'bad'; .*mine.py, line 4\)"),
        ("return None", r"it returned None in place of a tensor, float32 \[2, 3, 4, 4\] on cpu"),
        ("return x[:, :1]", r"it returned float32 \[2, 1, 4, 4\] in place of float32 \[2, 3, 4, 4\]"),
        ("return x.double()", r"it returned float64 \[2, 3, 4, 4\] in place of float32"),
        ("return x.long()", r"it returned int64 \[2, 3, 4, 4\] in place of float32"),
        ("return x.mul_(2)", r"it changes what it is given in place, which others use too. Change a copy"),
        ("return x / (t[0] - 500)", r"it returned NaN or infinity for finite images at noise level 500 \(t\)"),
    ],
)
def test_a_callable_that_returns_something_else_is_named(body: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"mine:make of .*: {message}"):
        read(function(body))


def test_a_derivative_that_the_callable_hides_is_not_taken_for_zero() -> None:
    network = network_of(read(function("return x.detach()")))
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    with pytest.raises(ModelError, match="does not follow from x_t by torch's differentiable operations"):
        network(x, torch.zeros(1))


def test_what_the_code_changes_for_the_whole_process_is_changed_back(folder: Path) -> None:
    write(
        "import os, torch\ntorch.set_default_dtype(torch.float64)\n"
        "def make():\n"
        "    os.chdir('/')\n    torch.set_grad_enabled(False)\n"
        "    return lambda x, t, labels: torch.set_default_dtype(torch.float64) or 0.1 * x\n"
    )
    read("factory=mine:make,input=vp,predicts=eps,image_size=4")
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert Path.cwd() == folder


def test_a_module_that_fails_at_its_mode_is_named() -> None:
    write(
        "import torch\nclass Net(torch.nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 3, 1)\n"
        "    def train(self, mode=True):\n        raise ValueError('no mode')\n"
        "    def forward(self, x, t, labels=None):\n        return super().forward(x)\n"
    )
    with pytest.raises(ModelError, match=r"mine:Net of .*: its eval failed \(ValueError: no mode; .*line 7"):
        read("factory=mine:Net,input=vp,predicts=eps,image_size=4")


def test_prints_go_to_stderr_with_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    write("print('importing')\ndef make():\n    print('making\\nit')\n    return lambda x, t: print('calling') or x")
    read(f"factory=mine:make,{EPS}")
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.splitlines()[:4] == [f"[mine:make] {text}" for text in ("importing", "making", "it", "calling")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"factory=mine,{EPS}", "write module:function, such as toy:make"),
        ("factory=mine:make,image_size=4,input=flow,predicts=eps", "at s = 1 no image follows from eps"),
        ("factory=mine:make,image_size=4,input=vp,predicts=flow", "Choose eps or x0 or v"),
        ("factory=mine:make,image_size=4,input=vp,predicts=eps,level=sigma", "level=sigma with input=vp. Choose t"),
        ("factory=mine:make,image_size=4,input=edm,predicts=x0,learned_variance=true", "belongs to input=vp"),
        (f"factory=mine:make,{EPS},null_class=true", "give num_classes too"),
        (f"factory=mine:make,{EPS},schedule=coosine", "Did you mean 'cosine'"),
        ("factory=mine:make,predicts=eps,image_size=4", "option 'input' is required"),
        (f"factory=~no-such-user/mine.py:make,{EPS}", "there is no home folder for '~no-such-user'"),
        (f"factory=mine:make,folder=~no-such-user,{EPS}", "there is no home folder for '~no-such-user'"),
        (f"factory=mine.py:make,folder=[3],{EPS}", "folder"),
    ],
)
def test_contracts_that_cannot_be_are_refused(options: str, message: str) -> None:
    with pytest.raises(PluginOptionsError, match=message):
        registry.resolve("models", f"python:{options}")


def test_a_module_that_is_not_there_is_said_to_be_missing(folder: Path) -> None:
    with pytest.raises(UsageError, match=rf"there is no module mine for mine:make: neither {folder}/mine.py, nor"):
        read(f"factory=mine:make,{EPS}")
    with pytest.raises(UsageError, match=r"there is no module mine in the folder .*/other"):
        read(f"factory=other/mine.py:make,{EPS}")
    with pytest.raises(UsageError, match="eps-prediction cannot be used on a schedule with zero terminal SNR"):
        read(f'factory=mine:make,schedule="linear:zero_terminal_snr=true",{EPS}')


def test_a_file_in_the_home_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    write("def call(x, t):\n    return x", "home/mine.py")
    for given in ("factory=~/mine.py:call", "factory=mine:call,folder=~"):
        assert read(f"{given},{EPS}").backbone_options["folder"] == str(folder / "home")


def test_code_is_found_from_other_folders_and_told_apart_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate("ab"):
        write(f"VALUE = {number}", f"{name}/beside.py")
        write("from beside import VALUE\ndef call(x, t):\n    return x * 0 + VALUE", f"{name}/mine.py")
    models = [read(f"factory={name}/mine.py:call,{EPS}") for name in "ab"]
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    write("def call(x, t):\n    return x * 0 + 9")  # of the same name, in the working directory
    for _ in range(2):
        for number, model in enumerate(models):
            out = network_of(model)(torch.ones(1, 3, 4, 4), torch.zeros(1))
            assert out.unique().tolist() == [number]
    assert "torch" in sys.modules


def test_changed_code_is_noted_and_moved_code_must_be_the_same(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="debiasctl")
    write("def call(x, t):\n    return x * 0", "a/mine.py")
    model = read(f"factory=a/mine.py:call,{EPS}")
    assert f"running code of yours: mine:call of {folder}/a/mine.py" in caplog.text
    backbone = registry.create("backbones", {"name": "python", "options": dict(model.backbone_options)})
    before = backbone.code_sha256()
    write("def call(x, t):\n    return x * 0 + 1", "a/mine.py")
    assert backbone.code_sha256() != before
    out = network_of(model)(torch.ones(1, 3, 4, 4), torch.zeros(1))
    assert out.unique().tolist() == [1]
    assert "mine.py has changed since the model was added" in caplog.text
    shutil.move("a/mine.py", "mine.py")
    with pytest.raises(
        ModelError, match=r"no longer in the folder .*/a, and .* is another file \(its SHA-256 differs\)"
    ):
        network_of(model)
    write("def call(x, t):\n    return x * 0")
    assert network_of(model)(torch.ones(1, 3, 4, 4), torch.zeros(1)).unique().tolist() == [0]
