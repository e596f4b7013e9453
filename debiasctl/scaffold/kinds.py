"""What a new package has of its kind: the name of its module, and commands that use the plugin."""

from dataclasses import dataclass

_TRAIN = "debiasctl train digits --steps 200 --name RUN"


@dataclass(frozen=True)
class Template:
    """A kind's template: its module is `stem`.py, and `uses` are commands, with NAME for the plugin and RUN for a run.

    In the template, the plugin's name is my-STEM and its class MyStem; a command has a Typer app in place of a class.
    """

    stem: str
    uses: tuple[str, ...]

    @property
    def name(self) -> str:
        """The plugin's name in the template."""
        return f"my-{self.stem}"

    @property
    def attribute(self) -> str:
        """What the entry point names in the template's module."""
        return "app" if self.stem == "command" else f"My{self.stem.title()}"


TEMPLATES = {
    "datasets": Template(
        "dataset", ("debiasctl datasets show NAME --out images.png", "debiasctl train NAME --steps 200 --name RUN")
    ),
    "autoencoders": Template("autoencoder", (f"{_TRAIN} --autoencoder NAME",)),
    "backbones": Template("backbone", (f"{_TRAIN} --backbone NAME",)),
    "schedules": Template("schedule", (f"{_TRAIN} --schedule NAME",)),
    "weightings": Template(
        "weighting",
        ("debiasctl weightings plot NAME debiased constant --out weights.png", f"{_TRAIN} --weighting NAME"),
    ),
    "timesteps": Template("timesteps", (f"{_TRAIN} --timesteps NAME",)),
    "samplers": Template("sampler", (_TRAIN, "debiasctl sample RUN --sampler NAME --steps 20 --out samples.png")),
    "features": Template("features", (_TRAIN, "debiasctl evaluate RUN --features NAME --steps 10")),
    "extensions": Template("extension", (f"{_TRAIN} --extension NAME",)),
    "models": Template(
        "model",
        (
            _TRAIN,
            "debiasctl runs export-checkpoint RUN model.safetensors --format NAME",
            "debiasctl runs add-model RUN-read NAME:path=model.safetensors",
            "debiasctl plugins check models NAME:path=model.safetensors",
        ),
    ),
    "engines": Template(
        "engine", ("debiasctl sweep digits --weighting constant,debiased --seeds 2 --trial --name RUN --engine NAME",)
    ),
    "commands": Template("command", (_TRAIN, "debiasctl NAME RUN")),
}
