"""What holds of model sources."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from debiasctl import registry
from debiasctl.api import ExternalModel, ImageShape, ModelSource, state_dict_differences
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.registry.refs import PluginRef
from debiasctl.testing.laws import Broken, Inapplicable, Laws, Subject, Unchecked, same

laws = Laws(may_lack=True)


def _model(subject: Subject) -> ExternalModel:
    def read() -> ExternalModel | DebiasctlError:
        try:
            model: ExternalModel = subject.make().read()
        except DebiasctlError as error:
            return error
        return model

    found: ExternalModel | DebiasctlError = subject.once("model", read)
    if isinstance(found, DebiasctlError):
        raise found
    return found


def _expect_same_model(first: ExternalModel, second: ExternalModel, what: str, *, but: tuple[str, ...] = ()) -> None:
    for field in dataclasses.fields(ExternalModel):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.name not in but and not same(one, other):
            shown = "" if field.name == "weights" else f" ({one!r:.60} and {other!r:.60})"
            raise Broken(f"{what} differ in {field.name}{shown}")


@laws.law("Read twice, the model is the same")
def _twice(subject: Subject) -> None:
    _expect_same_model(_model(subject), subject.make().read(), "two readings")


@laws.law("Its weights are those of the network that it names, and finite")
def _builds(subject: Subject) -> None:
    model = _model(subject)
    shape = ImageShape(model.image_size, model.channels, model.channels * (1 + model.learned_variance))
    classes = model.num_classes + model.null_class
    with _its_own_fault():
        backbone = registry.create("backbones", PluginRef(model.backbone, dict(model.backbone_options)))
        backbone.check_prediction(model.prediction, sigma_data=model.sigma_data)
        network: torch.nn.Module = backbone.build(shape, classes)
    differences = state_dict_differences(model.weights, network.state_dict())
    if differences:
        raise Broken(f"the network '{model.backbone}' has other tensors: {differences}")
    for name, tensor in model.weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Broken(f"'{name}' holds NaN or infinity")


@laws.law("Its schedule is a noise schedule")
def _schedule(subject: Subject) -> None:
    from debiasctl.diffusion import process_of

    model = _model(subject)
    with _its_own_fault():
        process_of(registry.create("schedules", PluginRef(model.schedule, dict(model.schedule_options))))


@laws.law("What it writes, it reads again: the same model")
def _written(subject: Subject) -> None:
    plugin: Any = subject.plugin
    if _plain(plugin).write.__func__ is ModelSource.write.__func__:  # type: ignore[attr-defined]
        raise Inapplicable("it writes no models")
    model, option = _model(subject), subject.more.get("read_option", "path")
    if option not in plugin.Options.model_fields:
        raise Unchecked(f"it has no option `{option}` that names the file to read")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "written"
        try:
            plugin.write(model, path)
        except UsageError as error:
            raise Unchecked(f"the format does not hold this model ({error})") from error
        given = {**subject.options.model_dump(mode="json", exclude_unset=True), option: str(path)}
        again = registry.create("models", PluginRef(subject.record.name, given)).read()
    _expect_same_model(model, again, "the model and what was written and read", but=("notes", "steps"))


@contextmanager
def _its_own_fault() -> Iterator[None]:
    """Take it for a broken law that what a model states is refused."""
    try:
        yield
    except DebiasctlError as error:
        raise Broken(str(error)) from error


def _plain(plugin: Any) -> Any:
    return plugin.__mro__[1]
