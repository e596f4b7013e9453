"""Pipeline folders of diffusers as models from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from debiasctl.api import (
    ExternalModel,
    ModelError,
    ModelSource,
    PluginOptions,
    UsageError,
)
from debiasctl.api.files import expanded
from debiasctl_diffusers.folder import CONFIG, check_components, check_folder, read_config, read_weights
from debiasctl_diffusers.network_config import Described, described
from debiasctl_diffusers.scheduler_config import Trained, scheduler_path, trained_on

AbsolutePath = Annotated[Path, AfterValidator(lambda path: expanded(path).absolute())]


class DiffusersModel(ModelSource):
    """A pipeline folder of diffusers: DDPMPipeline, DDIMPipeline, DiTPipeline, or a network with a scheduler.

    The folder is one that save_pretrained wrote: unet or transformer, and scheduler. What the network predicts and its
    noise levels follow from the scheduler's configuration. Nothing is downloaded, and no code in the folder is run.
    """

    class Options(PluginOptions):
        """The folder, and what its files leave open."""

        path: AbsolutePath = Field(description="the pipeline's folder, or the network's own")
        scheduler: AbsolutePath | None = Field(
            None,
            description="folder of the scheduler; unset: scheduler in the pipeline's folder, or beside the network",
        )
        variant: str | None = Field(
            None,
            pattern=r"^[A-Za-z0-9_]+$",
            description="variant of the weights, such as fp16; unset: none, or the only one",
        )
        ema: bool | None = Field(
            None, description="read the averaged weights, unet_ema; unset: if there are some beside the others"
        )
        null_class: bool | None = Field(
            None, description="whether the last row of classes stands for no class; unset: of a DiT alone"
        )

    options: Options

    def read(self) -> ExternalModel:
        """Read configurations and tensors.

        Raises:
            UsageError: if there is no such folder, or an option does not fit what it holds.
            ModelError: if a file is missing or damaged, or states something that no run can have.
        """
        folder = self.options.path
        check_folder(folder, _as_given(folder))
        index = check_components(folder)
        place, how = self._network_folder(folder)
        trained = trained_on(scheduler_path(folder, self.options.scheduler))
        network = described(place / CONFIG, read_config(place / CONFIG))
        learned = network.shape.out_channels > network.shape.in_channels
        _check_variance(place, trained, learned)
        weights, file = read_weights(place, self.options.variant)
        null_class = self._null_class(network)
        return ExternalModel(
            backbone=network.backbone,
            backbone_options=network.options.model_dump(mode="json"),
            weights={f"{network.prefix}{name}": tensor for name, tensor in weights.items()},
            image_size=network.shape.image_size,
            channels=network.shape.in_channels,
            prediction=trained.prediction,
            schedule=trained.schedule,
            schedule_options=trained.options,
            num_classes=network.num_rows - null_class,
            null_class=null_class,
            learned_variance=learned,
            sigma_data=trained.sigma_data,
            steps=network.steps,
            notes=(
                f"read {place.relative_to(folder) / file}{how}",
                *_notes(folder, index, weights, trained, network, null_class=null_class),
            ),
        )

    def _network_folder(self, folder: Path) -> tuple[Path, str]:
        """The folder of the network, and a word on what was chosen."""
        names = [name for name in ("unet", "transformer") if (folder / name / CONFIG).is_file()]
        if not names and (folder / CONFIG).is_file():
            if self.options.ema is not None:
                raise UsageError(f"diffusers: ema has no effect: {folder} is the folder of one network. Leave it out")
            return folder, ""
        if not names:
            held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
            raise ModelError(
                f"{folder} is no pipeline that diffusers saved: it holds neither unet/{CONFIG} nor "
                f"transformer/{CONFIG} (it holds {held})"
            )
        averaged = folder / f"{names[0]}_ema"
        has = (averaged / CONFIG).is_file()
        if self.options.ema and not has:
            raise UsageError(f"diffusers: {folder} holds no averaged weights, {averaged.name}. Leave ema out")
        if has and self.options.ema is not False:
            return averaged, ", which are averaged weights; ema=false for the others"
        return folder / names[0], ""

    def _null_class(self, network: Described) -> bool:
        given, rows = self.options.null_class, network.num_rows
        if given is None:
            return network.backbone == "diffusers-dit" and rows > 1
        if given and rows < 2:
            raise UsageError(f"diffusers: null_class=true, and the network has {rows} rows of classes. Leave it out")
        return given

    @classmethod
    def write(cls, model: ExternalModel, path: Path) -> tuple[str, ...]:
        """Refuse to write one file.

        Raises:
            UsageError: always, since the format is a folder.
        """
        raise UsageError(
            "diffusers keeps a model as a folder, which another command writes: debiasctl export-diffusers RUN DIR"
        )


def _as_given(folder: Path) -> str:
    """The path relative to the working directory, as a name on the Hub would have been given."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


def _check_variance(place: Path, trained: Trained, learned: bool) -> None:
    """Refuse a learned variance that the network does not have."""
    if trained.variance_type == "learned_range" and not learned:
        raise ModelError(
            f"{place}: the scheduler has variance_type=learned_range, and the network gives no channels for a variance"
        )


def _notes(
    folder: Path,
    index: Mapping[str, Any],
    weights: Mapping[str, Any],
    trained: Trained,
    network: Described,
    *,
    null_class: bool,
) -> list[str]:
    found = [f"its scheduler, with its own settings: --sampler '{trained.sampler}'", *trained.notes]
    if network.num_rows:
        last = (
            "the last of which stands for no class"
            if null_class
            else "none of which stands for no class (null_class=true if the last does)"
        )
        found.append(f"{network.num_rows} rows of classes, {last}")
    if (folder / "vae" / CONFIG).is_file():
        found.append(
            f"it draws latents, which its autoencoder decodes: --autoencoder diffusers-vae:path={folder / 'vae'}"
        )
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()} - {"float32"})
    if kinds:
        found.append(f"some of its tensors are {', '.join(kinds)}, which stay as they are and are computed in float32")
    if index.get("_class_name") not in (None, "DDPMPipeline", "DDIMPipeline", "DiTPipeline"):
        found.append(f"it is of a {index['_class_name']}, of which the network and the scheduler were read")
    return found
