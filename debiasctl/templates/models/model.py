"""A format of trained models."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

from debiasctl.api import ExternalModel, ModelError, ModelSource, PluginOptions, Prediction, UsageError, atomic_file
from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

KEY = "debiasctl.model"  # of the entry in the file's header
OTHERS = {"weights", "notes"}  # what that entry does not hold of a model


class MyModel(ModelSource):
    """A .safetensors file whose header states, as JSON, which network its tensors are those of."""

    class Options(PluginOptions):
        """The options of a file."""

        # absolute, so that a run names the same file wherever it is read
        path: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
            description="the file, .safetensors"
        )
        prediction: Prediction | None = Field(None, description="what the network predicts, if the header is wrong")

    options: Options

    def read(self) -> ExternalModel:
        """Read the tensors and the header; no code that the file may hold is run.

        Raises:
            UsageError: if there is no such file; ModelError: if it is not of this format.
        """
        path = self.options.path
        try:
            weights = load_file(path)
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[KEY])
            model = ExternalModel(weights=weights, **header)
        except FileNotFoundError as error:
            raise UsageError(f"there is no file {path}. Give a .safetensors file: path=FILE") from error
        except KeyError as error:
            raise ModelError(f"{path} has no entry '{KEY}' in its header. Read it by another format") from error
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise ModelError(f"{path} does not describe a network ({error}). Write it again") from error
        return model if self.options.prediction is None else replace(model, prediction=self.options.prediction)

    @classmethod
    def write(cls, model: ExternalModel, path: Path) -> tuple[str, ...]:
        """Write a network as such a file; returns a note for the user."""
        header = {field.name: getattr(model, field.name) for field in fields(model) if field.name not in OTHERS}
        with atomic_file(path) as stream:
            stream.write(save(dict(model.weights), metadata={KEY: json.dumps(header)}))
        return (f"the header states the network, under '{KEY}'",)
