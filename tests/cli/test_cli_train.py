import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny import BACKBONE, OPTIONS, debiasctl, digits, error_of, make_spec, set_up_tiny, succeed
from typer.testing import CliRunner

from debiasctl import paths
from debiasctl.cli.app import app
from debiasctl.cli.messages import with_options
from debiasctl.cli.output import note
from debiasctl.runs.store import find_run, read_metrics, run_names


def nothing_written(home: Path) -> bool:
    return list(home.iterdir()) == []


def image_folder(folder: Path, count: int = 12) -> Path:
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        Image.new("L", (8, 8), 20 * number).save(folder / f"{number}.png")
    return folder


def test_a_run_from_the_command_line() -> None:
    outcome = succeed("train", "digits", *OPTIONS, "--steps", "4", "--weighting", "min-snr:gamma=2", "--seed", "3",
                      "--lr", "0.01", "--checkpoint-every", "2", "--name", "run", "--schedule", "linear",
                      "--prediction", "x0", "--normalize", "none", "--timesteps", "uniform")  # fmt: skip
    run = find_run("run")
    spec = run.spec()
    assert str(spec.loss.weighting.ref) == "min-snr:gamma=2.0"
    assert (spec.training.seed, spec.optimizer.lr, spec.training.checkpoint_every) == (3, 0.01, 2)
    assert (spec.model.prediction, spec.loss.normalize, spec.diffusion.schedule.name) == ("x0", "none", "linear")
    assert spec.content is not None
    assert spec.content.content_hash == digits().content_hash
    assert spec.provenance.packages["torch"]
    assert sum(spec.content.class_counts) == spec.content.num_train == 1501
    assert outcome.out == f"run 'run' is finished at step 4: {run.path}\n"
    assert "from the start to step 4" in outcome.err
    assert "step 4/4  loss " in outcome.err
    assert outcome.err.splitlines()[-2:] == [
        "next: debiasctl sample run --out run.png",
        "next: debiasctl evaluate run",
    ]
    assert [record.kind for record in read_metrics(run)][-2:] == ["train", "heldout"]


def test_the_result_as_json_stands_alone_on_stdout() -> None:
    outcome = succeed("train", "digits", *OPTIONS, "--steps", "2", "--json")
    found = json.loads(outcome.out)
    run = find_run("digits-debiased-0")
    loss = [record for record in read_metrics(run) if record.kind == "train"][-1].loss
    held = 2 / 11 * 3 / 12  # of the initial weights, by the decays of the average's warm-up
    ended = {"name": run.name, "path": str(run.path), "state": "finished", "step": 2, "loss": loss}
    assert found == {"json_version": 1} | ended | {"ema_initial_share": pytest.approx(held)}


def test_runs_without_a_name_are_numbered() -> None:
    for _ in range(2):
        succeed("train", "digits", *OPTIONS, "--steps", "1")
    assert run_names() == ["digits-debiased-0", "digits-debiased-0-2"]


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(debiasctl_home: Path) -> None:
    outcome = succeed("train", "digits", *OPTIONS, "--images", "100", "--dry-run", "--json", "--name", "x")
    plan = json.loads(outcome.out)
    assert nothing_written(debiasctl_home)
    assert plan["spec"]["model"]["backbone"]["options"]["hidden_size"] == 16
    assert plan["spec"]["loss"]["weighting"]["distribution"] == "debiasctl"
    network = set_up_tiny(make_spec()).network
    assert plan["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert (plan["steps"], plan["images"]) == (13, 104)  # at least the 100 asked for
    assert plan["epochs"] == pytest.approx(104 / 1501)
    memory = plan["memory"]
    assert memory["total"] == sum(size for part, size in memory.items() if part != "total")
    assert memory["activations"] > 0
    text = succeed("train", "digits", *OPTIONS, "--images", "100", "--dry-run").out
    for part in (f"{plan['parameters']:,} parameters", "13 steps, 104 images, 0.1 epochs", "about", "10 classes"):
        assert part in text
    assert nothing_written(debiasctl_home)
    assert text.startswith("data ")  # the summary, and not the spec, whose place is in the JSON
    assert "{" not in text


def test_a_huber_loss_is_said_to_be_another_objective(caplog: pytest.LogCaptureFixture) -> None:
    settings = ("--set", "loss.metric=huber", "--set", "loss.huber_schedule=constant", "--prediction", "v")
    shown = succeed("train", "digits", *OPTIONS, *settings, "--dry-run")
    assert "debiased weighting, scaled to mean 1, of huber losses (c 0.1, constant)" in " ".join(shown.out.split())
    assert "density of t times weight of huber losses" in " ".join(shown.out.split())
    said = "another objective than the one that the weighting was published for. The weight multiplies the loss of v"
    assert said in " ".join(shown.err.split())
    succeed("train", "digits", *OPTIONS, *settings, "--steps", "2", "--name", "a")
    assert said in caplog.text
    assert "huber losses (c 0.1, constant)" in succeed("runs", "show", "a").out
    plain = succeed("train", "digits", *OPTIONS, "--dry-run")
    assert "huber" not in plain.out + plain.err


def test_the_notes_on_a_plan_come_after_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def forecast(*plan: object, **more: object) -> None:
        note("how long")

    monkeypatch.setattr("debiasctl.cli.train.forecast", forecast)
    settings = ("--prediction", "eps", "--schedule", "linear", "--set", "model.learned_variance=true")
    said = succeed("train", "digits", *OPTIONS, *settings, "--dry-run").err
    assert 0 <= said.index("how long") < said.index("published balance") < said.index("dry run: nothing was trained")


def test_a_dry_runs_spec_can_be_trained(tmp_path: Path) -> None:
    plan = json.loads(succeed("train", "digits", *OPTIONS, "--steps", "2", "--dry-run", "--json").out)
    (tmp_path / "spec.json").write_text(json.dumps(plan["spec"]))
    succeed("train", "--spec", tmp_path / "spec.json", "--name", "run")
    again = find_run("run").spec().model_dump(mode="json", exclude={"content", "provenance"})
    assert again == {key: value for key, value in plan["spec"].items() if key not in ("content", "provenance")}


def test_a_stored_spec_is_the_start_of_another_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it spells out and has no effect any more is named; what the command line asks for is refused."""
    train = ("train", "digits", *OPTIONS, "--steps", "2", "--dry-run", "--json")
    plan = json.loads(succeed(*train, "--set", "monitor.every=16", "--set", "monitor.num=4").out)
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(plan["spec"]))
    again = ("train", "--spec", file, "--dry-run", "--json")
    outcome = succeed(*again, "--set", "ema.kind=power", "--set", "monitor.num=2")
    monitor = json.loads(outcome.out)["spec"]["monitor"]
    assert (monitor["num"], monitor["grid"]) == (2, 2)
    assert caplog.text.count("ignored in the spec file") == 1
    message = error_of(*again, "--set", "ema.kind=power", "--set", "ema.decay=0.5", code=2)
    assert "ema.decay has no effect with ema.kind=power" in message


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_of_several_processes_one_shows_the_plan(form: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    train = ("train", "digits", *OPTIONS, "--steps", "2", "--dry-run", *form)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, speaks in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        outcome = succeed(*train)
        assert (bool(outcome.out), "dry run: nothing" in outcome.err) == (speaks, speaks and not form)


# ---------------------------------------------------------------- what a dry run says of the objective


@pytest.mark.parametrize("normalize", ["mean", "none"])
@pytest.mark.parametrize(
    "timesteps", ["uniform", "importance", "lognormal", "stratified", "loss-second-moment", "speed:tau=300"]
)
def test_a_dry_run_prints_the_effective_weight(timesteps: str, normalize: str) -> None:
    objective = json.loads(
        succeed("train", "digits", *OPTIONS, "--dry-run", "--json", "--timesteps", timesteps, "--weighting", "debiased",
                "--prediction", "eps", "--schedule", "linear", "--normalize", normalize).out
    )["objective"]  # fmt: skip
    assert list(objective) == ["t", "snr", "probability", "weight", "correction", "effective_weight"]
    columns = {name: np.array(values, dtype=float) for name, values in objective.items()}
    assert {len(column) for column in columns.values()} == {1000}
    assert objective["t"] == list(range(1000))
    alphas_cumprod = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(columns["snr"], alphas_cumprod / (1 - alphas_cumprod), rtol=1e-9)
    probability, weight, correction = (columns[name] for name in ("probability", "weight", "correction"))
    assert probability.sum() == pytest.approx(1)
    product = probability * correction * weight
    assert columns["effective_weight"].mean() == pytest.approx(1)
    np.testing.assert_allclose(columns["effective_weight"], product / product.mean(), rtol=1e-9)
    base = probability * correction
    scale = (base * columns["snr"] ** -0.5).sum() if normalize == "mean" else 1
    np.testing.assert_allclose(weight * scale, columns["snr"] ** -0.5, rtol=1e-9)
    if timesteps in ("importance", "stratified", "loss-second-moment", "uniform"):
        np.testing.assert_allclose(base, 1 / 1000, rtol=1e-9)
    else:
        np.testing.assert_allclose(correction, 1)
        assert base.max() > 2 * base.min()


def test_a_dry_run_prints_it_for_people_too() -> None:
    plan = ("train", "digits", *OPTIONS, "--dry-run", "--timesteps", "importance", "--weighting", "min-snr",
            "--schedule", "edm", "--prediction", "edm")  # fmt: skip
    text, objective = succeed(*plan).out, json.loads(succeed(*plan, "--json").out)["objective"]
    _, _, table = text.partition("What is optimised: density of t times weight, with mean 1 over t")
    lines = [line.split() for line in table.splitlines() if line.strip(" ─+-|")]
    assert " ".join(lines[0]) == "t SNR drawn (x T) weight on F correction effective"
    rows = {int(line[0]): line[1:] for line in lines[1:]}
    assert (min(rows), max(rows), len(rows)) == (0, 999, 11)
    for t, cells in rows.items():
        expected = (objective["snr"][t], 1000 * objective["probability"][t], objective["weight"][t],
                    objective["correction"][t], objective["effective_weight"][t])  # fmt: skip
        assert cells == [f"{value:.3g}" for value in expected]


def test_a_dry_run_warns_on_stderr_of_what_sampling_would_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("train", "digits", *OPTIONS, "--dry-run", "--json", "--schedule", "cosine:zero_terminal_snr=true")
    for weighting, prediction, warned in (
        ("debiased", "v", True), ("min-snr", "x0", True), ("constant-v", "v", False), ("truncated-snr", "x0", False),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(logging.root, "handlers", [])  # pytest's own keep the command from setting up its log
            outcome = succeed(*arguments, "--weighting", weighting, "--prediction", prediction)
        assert json.loads(outcome.out)["objective"]["snr"][-1] == 0
        assert (f"note: the effective weight on {prediction} at t = 999" in outcome.err) == warned
        assert "constant-v, constant-x0, truncated-snr and edm" in outcome.err or not warned


def test_where_some_signal_is_left_a_vanishing_weight_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    said = succeed("train", "digits", *OPTIONS, "--dry-run", "--json", "--weighting", "constant", "--prediction", "v",
                   "--schedule", "cosine").err  # fmt: skip
    assert "this network will hardly be trained there; so it is with this weighting" in said
    assert "truncated-snr" not in said


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [("eps", "at its last timestep x_t is the noise itself"), ("edm", "ln(sigma/alpha) is infinite")],
)
def test_a_dry_run_refuses_what_cannot_be_trained_at_zero_terminal_snr(
    prediction: str, reason: str, debiasctl_home: Path
) -> None:
    message = error_of("train", "digits", *OPTIONS, "--dry-run", "--schedule", "cosine:zero_terminal_snr=true",
                       "--prediction", prediction, code=2)  # fmt: skip
    assert f"{prediction}-prediction cannot be used on a schedule with zero terminal SNR" in message
    assert reason in message
    assert "Use --prediction v, x0 or flow" in message
    assert nothing_written(debiasctl_home)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timesteps", "importance:base=importance"], "is itself for importance sampling under a base"),
        (["--timesteps", "speed:tau=2000"], "tau=2000 lies beyond the schedule's 1000 timesteps"),
        (["--weighting", "uncertainty:base=uncertainty"], "its base 'uncertainty' is learned itself"),
        (["--weighting", "product:factors=[uncertainty]"], "its factor 'uncertainty' is learned"),
        (["--weighting", "uncertainty", "--set", "loss.metric=huber"],
         "learns the variance of a squared error, and a Huber loss has none. Choose --set loss.metric=mse"),
        (["--set", "loss.huber_c=0.2"], "loss.huber_c has no effect with loss.metric=mse"),
        (["--set", "loss.metric=huber", "--set", "loss.huber_c=0"], "huber_c: input should be greater than or equal"),
        (["--weighting", "table:path=/no/such.csv"], "there is no such file"),
        (["--schedule", "linear:zero_terminal_snr=true,continuous=true", "--prediction", "eps"],
         "eps-prediction cannot be used on a schedule with zero terminal SNR"),
        (["--schedule", "flow", "--prediction", "edm"], "the network's input ln(sigma/alpha) is infinite"),
        (["--schedule", "edm", "--set", "model.learned_variance=true"], "a continuous schedule has no such steps"),
    ],
)  # fmt: skip
def test_a_dry_run_refuses_what_training_would(arguments: list[str], message: str, debiasctl_home: Path) -> None:
    for more in (["--dry-run"], []):
        assert message in error_of("train", "digits", *OPTIONS, *arguments, *more, code=2)
    assert nothing_written(debiasctl_home)


# ---------------------------------------------------------------- spec files and --set

SETTINGS = {"data": {"dataset": "digits"}, "model": {"backbone": BACKBONE}, "loss": {"weighting": "p2:gamma=0.5"},
            "training": {"steps": 7, "keep_steps": [1, 2]}}  # fmt: skip
TOML = f"""
data.dataset = "digits"
model.backbone = "{BACKBONE}"
[loss]
weighting = "p2:gamma=0.5"
[training]
steps = 7
keep_steps = [1, 2]
"""


def planned(*arguments: str | Path) -> dict:
    return json.loads(succeed("train", *arguments, "--dry-run", "--json").out)["spec"]


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    texts = {"spec.json": json.dumps(SETTINGS), "spec.yaml": yaml.safe_dump(SETTINGS), "spec.toml": TOML}
    specs = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        specs.append(planned("--spec", tmp_path / name))
    assert specs[0] == specs[1] == specs[2]
    assert specs[0]["loss"]["weighting"]["options"] == {"k": 1.0, "gamma": 0.5}
    assert specs[0]["training"]["keep_steps"] == [1, 2]


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SETTINGS | {"optimizer": {"lr": 0.5, "betas": [0.1, 0.2]}}))
    spec = planned("--spec", file, "--set", "optimizer.lr=0.25", "--set", "training.steps=9", "--set",
                   "training.seed=4", "--seed", "5", "--weighting", "constant")  # fmt: skip
    assert (spec["optimizer"]["lr"], spec["optimizer"]["betas"]) == (0.25, [0.1, 0.2])
    assert (spec["training"]["steps"], spec["training"]["seed"]) == (9, 5)
    assert (spec["loss"]["weighting"]["name"], spec["loss"]["weighting"]["options"]) == ("constant", {})
    recommended = planned("digits")
    assert spec["ema"] == recommended["ema"]  # what nobody sets is the data set's


@pytest.mark.parametrize(
    "setting, message",
    [
        ("optimizer.lr=0", "optimizer.lr: input should be greater than 0"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.learning_rate=1", "unknown option 'optimizer.learning_rate'"),
        ("optimiser.lr=1", "unknown option 'optimiser'. Did you mean 'optimizer'?"),
        ("training.step=5", "unknown option 'training.step'. Did you mean 'steps'?"),
        ("training.steps=1.5", "training.steps"),
        ("training.steps=ten", "training.steps"),
        ("training.keep_steps=[1,-2]", "training.keep_steps"),
        ("optimizer.decay=cosin", "optimizer.decay"),
        ("model.prediction=score", "model.prediction"),
        ("ema.decay=1", "ema.decay: input should be less than 1"),
        ("steps=5", "write section.field=value"),
        ("training.steps", "write section.field=value"),
        ("loss.weighting=debias", "unknown weighting 'debias'. Did you mean 'debiased'?"),
        ("loss.weighting=p2:gama=1", "weighting 'p2': unknown option 'gama'. Did you mean 'gamma'?"),
        ("loss.weighting=p2:gamma=-1", "weighting 'p2': gamma"),
        ("schema_version=2", "write section.field=value"),
    ],
)
def test_a_bad_setting_says_the_same_from_the_command_line_and_a_file(
    setting: str, message: str, tmp_path: Path, debiasctl_home: Path
) -> None:
    assert message in error_of("train", "digits", "--set", setting, code=2)
    section, _, rest = setting.partition(".")
    field, equals, value = rest.partition("=")
    if equals:
        (tmp_path / "spec.yaml").write_text(f"{section}:\n  {field}: {value}\n")
        assert message in error_of("train", "digits", "--spec", tmp_path / "spec.yaml", code=2)
    assert nothing_written(debiasctl_home)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("spec.json", '{"data": ', "cannot be read"),
        ("spec.yaml", "a: [", "cannot be read"),
        ("spec.toml", "a = ", "cannot be read"),
        ("spec.json", "[1]", "must hold sections"),
        ("spec.ini", "", "the ending must be one of .json, .yaml, .yml, .toml"),
        ("spec.json", '{"schema_version": 5}', "schema version 5; this debiasctl reads up to 4. Update debiasctl"),
        ("spec.json", '{"schema_version": "new"}', "schema_version"),
        ("spec.json", '{"trainig": {"steps": 3}}', "unknown option 'trainig'. Did you mean 'training'?"),
    ],
)
def test_a_bad_spec_file(name: str, text: str, message: str, tmp_path: Path, debiasctl_home: Path) -> None:
    (tmp_path / name).write_text(text)
    assert message in error_of("train", "digits", "--spec", tmp_path / name, code=2)
    assert nothing_written(debiasctl_home)


def test_a_spec_file_that_is_not_there(tmp_path: Path) -> None:
    assert "none.json cannot be read: No such file" in error_of("train", "--spec", tmp_path / "none.json", code=2)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no data set is named. Give one: debiasctl train digits"),
        (["digitz"], "unknown dataset 'digitz'. Did you mean 'digits'?"),
        (["emoji64"], "there is no folder ./emoji64; and as a name: unknown dataset 'emoji64'"),
        (["./no/such/folder"], "there is no folder or archive './no/such/folder'"),
        (["images.zip"], "there is no folder or archive 'images.zip'"),
        (["digits", "--backbone", "unett"], "unknown backbone 'unett'. Did you mean 'unet'?"),
        (["digits", "--schedule", "linaer"], "Did you mean 'linear'?"),
        (["digits", "--timesteps", "unifrom"], "Did you mean 'uniform'?"),
        (["digits", "--weighting", "min-snr:gamma"], "'gamma' has no '='"),
        (["digits", "--backbone", "dit:patch_size=3"], "patch"),
        (["digits", "--prediction", "epsilon"], "model.prediction"),
        (["digits", "--normalize", "max"], "loss.normalize"),
        (["digits", "--lr", "-1"], "optimizer.lr"),
        (["digits", "--seed", str(2**63)], "training.seed"),
        (["digits", "--device", "tpu"], "unknown device 'tpu'. Did you mean 'cpu'? Allowed: auto, cpu, cuda, cuda:N"),
        (["digits", "--steps", "5", "--images", "9"], "two ways to say one budget"),
        (["digits", "--data-dir", "/no/such"], "--data-dir /no/such is not a folder"),
        (["digits", "--prediction", "eps", "--schedule", "linear:zero_terminal_snr=true"], "zero terminal SNR"),
        (["digits", "--name", "a/b"], "'a/b' is not a run's name"),
        (["digits", "--name", ".."], "'..' is not a run's name"),
        (["digits", "--name", "a/b", "--dry-run"], "'a/b' is not a run's name"),
        (["--resume", "no-run"], "there is no run 'no-run'"),
    ],
)
def test_misuse_is_exit_code_2_and_writes_nothing(arguments: list[str], message: str, debiasctl_home: Path) -> None:
    extra = [] if "--backbone" in arguments else OPTIONS[:2]
    assert message in error_of("train", *arguments, *(extra if "--resume" not in arguments else []), code=2)
    assert nothing_written(debiasctl_home)


def test_a_taken_name_is_refused_with_both_ways_on() -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "run")
    for more in ([], ["--dry-run"]):
        message = error_of("train", "digits", *OPTIONS, "--name", "run", *more, code=2)
        assert "debiasctl train --resume run" in message
        assert "another --name" in message


@pytest.mark.parametrize("option", [["digits"], ["--name", "b"], ["--weighting", "constant"], ["--seed", "1"],
                                    ["--lr", "1"], ["--set", "a.b=1"], ["--spec", "f.json"], ["--dry-run"],
                                    ["--checkpoint-every", "4"], ["--batch-size", "4"]])  # fmt: skip
def test_a_run_goes_on_as_it_is(option: list[str]) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "run")
    message = error_of("train", "--resume", "run", "--steps", "3", *option, code=2)
    refused = "DATASET" if option == ["digits"] else option[0]
    assert f"it does not take {refused}. Allowed beside it: --steps" in message
    assert find_run("run").spec().training.steps == 1


def test_a_loss_that_is_not_finite_fails_the_run_and_names_step_t_and_weight() -> None:
    message = error_of("train", "digits", *OPTIONS, "--steps", "20", "--lr", "1e36", "--name", "run", code=1)
    assert "is not finite at step" in message
    assert "at t = " in message
    assert "weight " in message
    run = find_run("run")
    status = run.status()
    assert status.state == "failed"
    assert message.startswith(with_options(status.message or "-"))
    assert 0 < status.step < 20
    assert run.checkpoint_steps() == [0]


# ---------------------------------------------------------------- folders


def test_a_path_is_the_folder_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(("images", "./images", tmp_path / "images")):
        succeed("train", path, *OPTIONS, "--steps", "1", "--name", f"run{number}")
        dataset = find_run(f"run{number}").spec().data.dataset
        assert (dataset.name, dataset.options["path"]) == ("folder", str(tmp_path / "images"))


def test_a_data_sets_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert planned("digits")["data"]["dataset"]["name"] == "digits"
    assert planned("./digits", *OPTIONS)["data"]["dataset"]["name"] == "folder"


def test_labels_of_data_without_classes(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    message = error_of("train", folder, *OPTIONS, "--set", "model.conditional=true", code=2)
    assert "model.conditional=true needs a data set with classes, and this one has none" in message
    succeed("train", folder, *OPTIONS, "--steps", "1", "--name", "run")
    assert find_run("run").spec().model.conditional is False
    assert "trained without class labels. Leave --class out" in error_of("sample", "run", "--class", "0", code=2)
    message = error_of("evaluate", "run", "--num", "4", "--features", "local", code=2)
    assert "features 'local' need a data set with classes, and 'folder' has none. Use --features local-ssl" in message


def test_an_empty_folder_and_an_unreadable_image(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in error_of("train", tmp_path / "empty", *OPTIONS, code=1)
    folder = image_folder(tmp_path / "images")
    (folder / "5.png").write_bytes(b"not an image")
    assert "5.png" in error_of("train", folder, *OPTIONS, code=1)
    assert not paths.runs_dir().exists()


def test_the_data_variable_must_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_DATA", "/no/such")
    assert "DEBIASCTL_DATA names '/no/such', which is not a folder" in error_of("train", "digits", *OPTIONS, code=2)


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path / "file"))
    message = error_of("train", "digits", *OPTIONS, "--steps", "1", "--name", "run", code=1)
    assert str(tmp_path / "file") in message


def test_typers_own_runner_sees_the_same_errors() -> None:
    from debiasctl.errors import UnknownPluginError

    result = CliRunner().invoke(app, ["train", "digitz"])
    assert isinstance(result.exception, UnknownPluginError)
    assert debiasctl("train", "digitz").code == result.exception.exit_code == 2
