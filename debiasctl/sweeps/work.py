"""The job of a sweep: one run trained, or trained further, and measured; a worker calls this for one run at a time."""

import gc
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl import paths
from debiasctl.api import DataLocation, Job
from debiasctl.compute.threads import compute_with
from debiasctl.errors import RunBusyError, UsageError
from debiasctl.runs.store import Run
from debiasctl.specs.resolve import validate_spec
from debiasctl.sweeps.plan import differences, listed

if TYPE_CHECKING:
    from debiasctl.api.engines import Report
    from debiasctl.specs.sections import RunSpec
    from debiasctl.sweeps.store import StoredMeasures
    from debiasctl.training.loop import Progress

_PATIENCE = 600.0  # seconds for another process that trains the run
_POLL = 0.5
_TARGET = "debiasctl.sweeps.work:train_and_measure"


def job_of(
    run: Run, spec: "RunSpec", measures: "StoredMeasures", *, threads: int, device: str, data_dir: Path | None
) -> Job:
    """The job that trains a run by this spec and measures it."""
    return Job(
        run.name,
        _TARGET,
        {
            "run": run.name,
            "spec": spec.model_dump(mode="json"),
            "measures": measures.model_dump(mode="json"),
            "threads": threads,
            # a worker of one GPU sees no other
            "device": "cuda" if device.startswith("cuda:") else device,
            "data_dir": None if data_dir is None else str(data_dir),
        },
    )


def train_and_measure(arguments: Mapping[str, Any], report: "Report") -> None:
    """Train the run to its end, from its last checkpoint if it has one, and measure it; what is done stays done.

    Raises:
        UsageError: if a run of that name has other settings; and the errors of training and evaluation.
    """
    compute_with(arguments["threads"])
    from debiasctl.compute.device import forget_computation
    from debiasctl.data.load import keep_loaded

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    keep_loaded()
    gc.collect()  # what the job before left in cycles may be large
    forget_computation()
    spec, run = validate_spec(arguments["spec"]), Run(paths.runs_dir() / arguments["run"])
    data_dir = arguments["data_dir"]
    location = DataLocation(None if data_dir is None else Path(data_dir), paths.cache_dir())
    _train(run, spec, location, device=arguments["device"], report=report)
    _measure(run, arguments["measures"], location, device=arguments["device"], report=report)


def _train(run: Run, spec: "RunSpec", location: DataLocation, *, device: str, report: "Report") -> None:
    from debiasctl.models.outside_code import trust
    from debiasctl.training.conduct import Conduct
    from debiasctl.training.monitor import Monitor
    from debiasctl.training.session import resume, start

    def show(progress: "Progress") -> None:
        report(
            {
                "doing": "training",
                "step": progress.step,
                "num_steps": progress.num_steps,
                "images_per_step": progress.images_per_step,
                "images_per_second": progress.images_per_second,
            }
        )

    conduct = Conduct(device=device, on_progress=show, observer=Monitor)
    trust(spec)  # it was checked where the sweep was started; this may be another machine
    begun = time.monotonic()
    while True:
        try:
            if not run.path.is_dir():
                start(spec, location, name=run.name, conduct=conduct)
                return
            check_same(run, spec)
            if run.status().state != "finished":
                resume(run, location, steps=None, conduct=conduct)
            return
        except RunBusyError:  # by a worker whose sweep was killed, perhaps, and which is writing its checkpoint
            if time.monotonic() - begun > _PATIENCE:
                raise
            report({"doing": "waiting"})
            time.sleep(_POLL)


def check_same(run: Run, spec: "RunSpec") -> None:
    """Check that a run that is there is the one of this spec.

    Raises:
        UsageError: if its settings are others; RunError: if its spec cannot be read.
    """
    different = differences(spec, run.spec())
    if different:
        raise UsageError(
            f"run '{run.name}' is there already, with other settings: {listed(different)}. Give the sweep another "
            f"`name`, or remove the run: debiasctl runs rm {run.name}"
        )


def _measure(run: Run, measures: Mapping[str, Any], location: DataLocation, *, device: str, report: "Report") -> None:
    from debiasctl.compute.device import make_accelerator
    from debiasctl.evaluation.choices import Choices
    from debiasctl.evaluation.evaluate import evaluate
    from debiasctl.sampling import make_request

    spec = run.spec()
    requests = [
        make_request(
            run,
            spec,
            num=measures["num"],
            num_steps=count,
            sampler=measures["sampler"],
            seed=spec.training.seed,
            checkpoint=str(spec.training.steps),
            weights="ema",
        )
        for count in measures["steps"]
    ]
    evaluate(
        run,
        spec,
        requests,
        location,
        choices=Choices(features=measures["features"], metrics=measures["metrics"]),
        device=make_accelerator(device).device,
        on_progress=lambda what, done, total: report({"doing": what, "done": float(done), "total": total}),
    )
