"""The interventions: what each changes in sampling, which cause it speaks for, and which of them a run allows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from debiasctl.analysis.subject import Subject
from debiasctl.api import Denoiser, Level, Sampler
from debiasctl.errors import UsageError
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import PluginRef
from debiasctl.sampling.drawing import Drawer

# cause -> what it is called in a sentence
CAUSES: Final[Mapping[str, str]] = {
    "training": "training bias",
    "leak": "the signal leak at the first noise level",
    "steps": "the discretisation by few sampling steps",
    "clipping": "the clipping of x0 estimates",
    "guidance": "classifier-free guidance",
    "variance": "the learned variance",
    "exposure": "exposure bias",
    "data": "the training images themselves",
}
_NAMES: Final[Mapping[str, str]] = {
    "ideal_denoiser": "training", "mean_error_subtracted": "training", "noised_start": "leak", "more_steps": "steps",
    "no_clipping": "clipping", "no_guidance": "guidance", "fixed_variance": "variance", "eps_scaled": "exposure",
    "heldout_reference": "data",
}  # fmt: skip
TIMES: Final = 4  # as many steps, and no fewer than
ENOUGH: Final = 64


@dataclass(frozen=True)
class Intervention:
    """One change to sampling, or to what it is measured against: its name in records, and what it does, in words.

    With `after`, the change is made to the samples of that intervention, and what goes away is measured against them.
    """

    name: str
    text: str
    after: str | None = None

    @property
    def cause(self) -> str:
        """The cause that it speaks for."""
        return cause_of(self.name)


def cause_of(name: str) -> str:
    """The cause that an intervention speaks for, by its name in records."""
    return _NAMES[name]


@dataclass(frozen=True)
class Setup:
    """How the run's samples are drawn, and what of it can be changed."""

    subject: Subject
    sampler: Sampler
    first: Level | None  # noise level, None where the sampler has no fixed ones
    more_steps: int | None

    @classmethod
    def of(cls, subject: Subject) -> "Setup":
        """Look at the sampler of a run's request."""
        request = subject.request
        sampler: Sampler = request.sampler.create("samplers")
        grid = sampler.grid(subject.process, request.num_steps)
        return cls(subject, sampler, grid[0] if grid else None, _more_steps(subject, sampler))

    def option(self, name: str) -> Any:
        """An option of the sampler, None if it has none of that name."""
        return getattr(self.sampler.options, name, None)

    @property
    def learned_variance(self) -> bool:
        """Whether the network's variance takes part in sampling."""
        return bool(self.subject.spec.model.learned_variance) and self.option("variance") in ("auto", "learned")

    @property
    def clips(self) -> bool:
        """Whether the sampler changes estimates of x0 that lie outside the images' range."""
        return bool(self.option("clip_x0")) or self.option("threshold") is not None

    def possible(self) -> list[Intervention]:
        """The interventions that could change anything, without those that depend on what is measured first."""
        found = []
        if self.first is not None and self.first.alpha > 0:
            found.append(Intervention("noised_start", "starting from noised training images, not from pure noise"))
        if self.clips:
            what = "clipping" if self.option("threshold") is None else "thresholding"
            found.append(Intervention("no_clipping", f"without the {what} of x0 estimates"))
        if self.option("guidance") not in (None, 1.0):
            found.append(Intervention("no_guidance", f"without guidance ({self.option('guidance'):g})"))
        if self.learned_variance:
            text = "with the fixed variance (posterior) instead of the learned one"
            found.append(Intervention("fixed_variance", text))
        if self.more_steps is not None:
            text, after = f"with {self.more_steps} sampling steps instead of {self.subject.request.num_steps}", None
            if self.learned_variance:  # whose errors vanish with more steps too, and are no discretisation's
                text, after = f"{text}, both with the fixed variance", "fixed_variance"
            found.append(Intervention("more_steps", text, after))
        return found

    def ruled_out(self) -> list[str]:
        """Why causes cannot be at work in this run, in sentences."""
        found = []
        if self.first is not None and self.first.alpha == 0:
            found.append("The first noise level has an SNR of 0, so that there is no signal leak.")
        if self.first is None:
            found.append("The sampler has no fixed noise levels, so that the signal leak was not measured.")
        if self.more_steps is None:
            found.append("Sampling already makes a step at every timestep of the schedule: more were not tried.")
        if not self.clips:
            found.append("Sampling does not clip estimates of x0.")
        if self.subject.spec.model.learned_variance and not self.learned_variance:
            found.append("The network's learned variance takes no part in sampling with this sampler.")
        return found

    def drawer(
        self,
        denoiser: Denoiser | None = None,
        *,
        num_steps: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Drawer:
        """The run's drawer with another denoiser, number of steps or options of the sampler."""
        subject = self.subject
        if options:
            choice = subject.request.sampler
            changed = complete("samplers", PluginRef(choice.name, {**choice.options, **options}))
            subject = replace(subject, request=replace(subject.request, sampler=changed))
        return subject.drawer(denoiser=denoiser, num_steps=num_steps)

    def with_more_steps(self, denoiser: Denoiser | None = None, **options: Any) -> Drawer:
        """The drawer with more steps, where there can be more, and the fixed variance, where it is learned."""
        fixed = {"variance": "fixed-small"} if self.learned_variance else {}
        return self.drawer(denoiser, num_steps=self.more_steps, options=options | fixed)

    def changed(self, name: str) -> Drawer:
        """The drawer of one of the `possible` interventions on the sampler's options."""
        if name == "fixed_variance":
            return self.drawer(options={"variance": "fixed-small"})
        if name == "no_guidance":
            return self.drawer(options={"guidance": 1.0})
        off = {"clip_x0": False, "threshold": None}
        return self.drawer(options={option: value for option, value in off.items() if self.option(option) is not None})


def _more_steps(subject: Subject, sampler: Sampler) -> int | None:
    """A larger number of steps that the sampler can make on the schedule, None if there is none."""
    now = subject.request.num_steps
    for steps in (max(TIMES * now, ENOUGH), subject.process.num_timesteps):
        if steps <= now:
            continue
        try:
            sampler.grid(subject.process, steps)
        except UsageError:
            continue
        return steps
    return None
