"""The engine of clusters that SLURM runs, by submitit."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Literal

from pydantic import Field

from debiasctl.api import JobEvent, PluginOptions, UsageError, Workplace
from debiasctl.builtin.engines._support.host import perform_order
from debiasctl.builtin.engines._support.post import Outcome, Post, outcome_of
from debiasctl.builtin.engines._support.remote import Refused, Remote, Sent

_MARGIN = 180.0  # seconds before the time limit at which a job writes its last checkpoint
_AT_ONCE = 1000  # jobs in SLURM's queue, which starts them as it can
_BY_THE_CLUSTER = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT")  # how a job ends that SLURM or a machine ended
# parameters of sbatch that the engine sets itself, and what sets them; "" where nothing else would work
_OWN = {
    "partition": "partition", "account": "account", "time": "time", "gpus-per-node": "gpus", "cpus-per-task": "cpus",
    "mem": "mem", **dict.fromkeys(
        ("array", "error", "job-name", "nodes", "no-requeue", "ntasks", "ntasks-per-node", "open-mode", "output",
         "requeue", "signal", "wrap"), ""),
}  # fmt: skip
_RESOURCES = ("gres", "tres-per-job", "tres-per-node", "tres-per-task")
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_")
_OF_ITS_PLACE = {
    "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "RANK", "ROCR_VISIBLE_DEVICES", "WORLD_SIZE", "ZE_AFFINITY_MASK",
}  # fmt: skip


class Slurm(Remote):
    """Jobs of SLURM, one a run, on nodes that share the folder DEBIASCTL_HOME (extra: debiasctl[slurm]).

    A job that runs out of its time or is preempted writes a checkpoint and is submitted again, as where its node fails.
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
        self._has_sent = False

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

    def runs_here(self) -> bool:
        """Whether jobs run on this machine."""
        return self.options.executor == "local"

    def gpus(self) -> float | None:
        """The GPUs of a job; None where parameters of sbatch ask for them."""
        return None if asks_for_gpus(self.options.parameters) else self.options.gpus

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
            with _without_interrupt(), outside_of_jobs():
                self._executor.update_parameters(name=name)
                sent = _SlurmSent(self._executor.submit(perform_order, order), name)
        except RuntimeError as error:  # the base of submitit's own
            message = f"SLURM does not take the job: {_last_line(error)}"
            if self._has_sent:  # so it is no matter of the options, but of limits on jobs in the queue, or of a moment
                raise Refused(message) from error
            raise UsageError(
                f"{message}. Correct the engine's options, for example `engine=slurm:partition=NAME,time=60`"
            ) from error
        self._has_sent = True
        return sent


class _SlurmSent(Sent):
    def __init__(self, job: Any, name: str) -> None:
        self._job, self._name = job, name

    def outcome(self) -> Outcome | None:
        import submitit

        if not self._job.done():
            # submitit waits for such a job to be requeued, which ours are not
            return self._stopped("PREEMPTED") if self._job.state == "PREEMPTED" else None
        try:
            return outcome_of(self._job.result())
        except submitit.core.utils.FailedJobError as error:
            if "No module named" in str(error):
                return Outcome(unfit=f"debiasctl is not installed on a node of the cluster: {_last_line(error)}")
            where = self._job.paths.stderr
            reason = f"its SLURM job {self._job.job_id} ended in state {self._job.state} without a result; see {where}"
        except submitit.core.utils.UncompletedJobError:
            state = str(self._job.state).upper()
            if state in _BY_THE_CLUSTER:
                return self._stopped(state)
            reason = (
                f"its SLURM job {self._job.job_id} ended in state {state} without a result. If there is no "
                f"log, its node may not see this folder, which has to be on shared storage: {self._job.paths.folder}"
            )
        return Outcome(JobEvent(self._name, "failed", reason=reason))

    def is_unknown(self) -> bool:
        """Whether SLURM does not say how the job stands, as where it keeps no accounts (sacct)."""
        return bool(self._job.state == "UNKNOWN")

    def _stopped(self, state: str) -> Outcome:
        reason = f"its SLURM job {self._job.job_id} ended in state {state}; see {self._job.paths.stderr}"
        return Outcome(JobEvent(self._name, "stopped", reason=reason))

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
    _check_parameters(options)
    named = asks_for_gpus(options.parameters)
    if device == "cpu" and (options.gpus or named):
        asked = f"gpus={options.gpus}" if options.gpus else f"parameters.{named}"
        raise UsageError(f"{asked} of the engine 'slurm' contradicts `device=cpu`. Leave one of them out")
    if device == "cuda" and not options.gpus and not named:
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
        # since SLURM 22.05, srun does not take it from sbatch, and would bind all threads to one core
        "slurm_srun_args": ["-c", str(cpus)],
        # the sweep submits a stopped job again itself; SLURM would beside it
        "slurm_additional_parameters": {"no-requeue": True, **options.parameters},
    }
    return {name: value for name, value in given.items() if value is not None}


def asks_for_gpus(parameters: Mapping[str, str | int | bool]) -> str | None:
    """The parameter of sbatch that asks for GPUs, which some clusters want in another way than `gpus`, if one does."""
    for name, value in parameters.items():
        spelt = name.replace("_", "-")
        if spelt in ("gpus", "gpus-per-task", "gpus-per-socket") or (spelt in _RESOURCES and "gpu" in str(value)):
            return name
    return None


def _check_parameters(options: Slurm.Options) -> None:
    """Check that `parameters` leaves to the engine what the engine sets."""
    for name, value in options.parameters.items():
        own = _OWN.get(name.replace("_", "-"))
        if own is not None:
            instead = f"Use its option {own}" if own else "A job of a sweep would not work with another one"
            raise UsageError(f"parameters.{name} of the engine 'slurm': the engine sets it itself. {instead}")
        if value is False:
            raise UsageError(f"parameters.{name}=false of the engine 'slurm' means nothing to sbatch. Leave it out")
    named = asks_for_gpus(options.parameters)
    if named and options.gpus:
        raise UsageError(f"gpus={options.gpus} and parameters.{named} of the engine 'slurm' are two wishes. Give one")


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Hide the SLURM job that this process may be part of: sbatch would pass its variables on to the jobs it submits.

    What a user sets for sbatch (SBATCH_ACCOUNT, SLURM_CONF) stays.
    """
    hidden: dict[str, str] = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [name for name in os.environ if name.startswith(_OF_A_JOB) or name in _OF_ITS_PLACE]
        hidden = {name: os.environ.pop(name) for name in names if name not in ("SLURM_CONF", "SLURM_CLUSTERS")}
    try:
        yield
    finally:
        os.environ.update(hidden)


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
