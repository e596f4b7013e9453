"""The engine of clusters that SLURM runs, by submitit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Literal

from pydantic import Field

from debiasctl.api import JobEvent, PluginOptions, UsageError, Workplace
from debiasctl.builtin.engines._support.host import perform_order
from debiasctl.builtin.engines._support.post import Outcome, Post, outcome_of
from debiasctl.builtin.engines._support.remote import Remote, Sent

_MARGIN = 180.0  # seconds before the time limit at which a job writes its last checkpoint
_AT_ONCE = 1000  # jobs in SLURM's queue, which starts them as it can


class Slurm(Remote):
    """Jobs of SLURM, one a run, on nodes that share the folder DEBIASCTL_HOME (extra: debiasctl[slurm]).

    A job that runs out of its time writes a checkpoint and is submitted again.
    """

    package: ClassVar[str] = "submitit"
    name: ClassVar[str] = "slurm"

    class Options(PluginOptions):
        """What sbatch is given for each job."""

        partition: str | None = Field(None, min_length=1, description="partition (default: the cluster's)")
        account: str | None = Field(None, min_length=1, description="account (default: the user's)")
        time: int = Field(240, ge=1, le=60 * 24 * 365, description="time limit of a job, in minutes")
        gpus: int = Field(0, ge=0, le=64, description="GPUs of a job")
        cpus: int | None = Field(None, ge=1, le=4096, description="CPU cores of a job (default: its threads)")
        mem: float | None = Field(None, gt=0, description="memory of a job, in GB (default: the partition's)")
        parameters: dict[str, str | int | bool] = Field(
            default_factory=dict, description='other parameters of sbatch, as in {"qos": "long", "constraint": "a100"}'
        )
        submissions: int = Field(
            20,
            ge=1,
            le=1000,
            description="how often a job is submitted at most, if its time runs out or it is preempted",
        )
        executor: Literal["slurm", "local"] = Field(
            "slurm", description="slurm, or local to try it without SLURM, by processes on this machine"
        )

    options: Options

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._executor: Any = None

    def prepare(self, workplace: Workplace, post: Post, num_jobs: int) -> int:
        """Make the executor of submitit, which leaves its files in the folder of the sweep's logs."""
        parameters = parameters_of(self.options, workplace)
        import submitit

        try:
            self._executor = submitit.AutoExecutor(post.folder / "submitit", cluster=self.options.executor)
        except RuntimeError as error:
            raise UsageError(
                "SLURM is not on this machine: there is no program srun. Run the sweep where sbatch can be called, or "
                "try it here: `engine=slurm:executor=local`"
            ) from error
        self._executor.update_parameters(**parameters)
        if workplace.jobs is not None:
            return workplace.jobs
        return min(num_jobs, _AT_ONCE) if self.options.executor == "slurm" else 1

    def gpus(self) -> float:
        """The GPUs of a job."""
        return self.options.gpus

    def seconds(self) -> float:
        """The time that a job has until it writes its last checkpoint."""
        limit = 60.0 * self.options.time
        return limit - min(_MARGIN, limit / 3)

    def times(self) -> int:
        """How often a job is submitted that was stopped."""
        return self.options.submissions

    def send(self, order: dict[str, Any], name: str) -> Sent:
        """Submit a job."""
        try:
            with _without_interrupt():
                self._executor.update_parameters(name=name)
                return _SlurmSent(self._executor.submit(perform_order, order), name)
        except RuntimeError as error:  # the base of submitit's own
            raise UsageError(
                f"SLURM does not take the job: {_last_line(error)}. Correct the engine's options, for example "
                "`engine=slurm:partition=NAME,time=60`"
            ) from error


class _SlurmSent(Sent):
    def __init__(self, job: Any, name: str) -> None:
        self._job, self._name = job, name

    def outcome(self) -> Outcome | None:
        import submitit

        if not self._job.done():
            return None
        try:
            return outcome_of(self._job.result())
        except submitit.core.utils.FailedJobError as error:
            if "No module named" in str(error):
                return Outcome(unfit=f"debiasctl is not installed on a node of the cluster: {_last_line(error)}")
            where = self._job.paths.stderr
            reason = f"its SLURM job {self._job.job_id} ended in state {self._job.state} without a result; see {where}"
        except submitit.core.utils.UncompletedJobError:
            reason = (
                f"its SLURM job {self._job.job_id} ended in state {self._job.state} without a result. If there is no "
                f"log, its node may not see this folder, which has to be on shared storage: {self._job.paths.folder}"
            )
        return Outcome(JobEvent(self._name, "failed", reason=reason))

    def withdraw(self) -> None:
        with suppress(Exception):  # it may have ended by itself
            self._job.cancel(check=False)


def parameters_of(options: Slurm.Options, workplace: Workplace) -> dict[str, Any]:
    """The parameters of submitit's executor.

    Raises:
        UsageError: if options contradict the workplace.
    """
    device, cpus = workplace.device, options.cpus or workplace.threads
    if device.startswith("cuda:"):
        raise UsageError(f"`device={device}`: SLURM chooses the GPU of each job. Give cuda, or auto")
    if device == "cpu" and options.gpus:
        raise UsageError(f"gpus={options.gpus} of the engine 'slurm' contradicts `device=cpu`. Leave one of them out")
    if device == "cuda" and not options.gpus:
        raise UsageError("`device=cuda`, and jobs of the engine 'slurm' have no GPU. Give it gpus=1")
    if cpus < workplace.threads:
        raise UsageError(
            f"cpus={cpus} of the engine 'slurm' is less than the {workplace.threads} `threads` of a run. Give at least "
            "as many"
        )
    given = {
        "timeout_min": options.time,
        "cpus_per_task": cpus,
        "gpus_per_node": options.gpus or None,
        "mem_gb": options.mem,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_signal_delay_s": 30,  # the host stops its job before
        "slurm_additional_parameters": dict(options.parameters) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Ctrl-C does not reach processes that are started within; this one receives it afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
