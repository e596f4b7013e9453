"""What stitched sampling found, in sentences."""

from debiasctl.analysis.parts.impact_words import brief, case, leaves_out_0, said
from debiasctl.analysis.record import AnalysisRecord, Quantity
from debiasctl.wording import counted


def stitching_findings(record: AnalysisRecord) -> list[str]:
    """A sentence a metric: how much the networks differ, and which steps carry it."""
    this, other = record.network.run, record.others[0].run
    sentences = []
    for metric in _metrics(record):
        total = record.quantity(f"stitched_change[{metric}]")
        if total is None:
            continue
        ranges = [(steps, one) for steps, one in _ranges(record, metric) if one is not None]
        text = f"From '{this}' to '{other}', {metric} changes by {said(total)}"
        loud = [(steps, one) for steps, one in ranges if leaves_out_0(one)]
        if not leaves_out_0(total) and total.low is not None:
            text += ", which is not distinguishable from 0"
        if total.low is None:
            sentences.append(f"{text}; no step's part of it can be told apart from chance without intervals.")
            continue
        if not loud:
            sentences.append(f"{text}; no range of steps has a distinguishable part of it.")
            continue
        told = "; ".join(f"{steps} {brief(one)}{_share(record, metric, steps)}" for steps, one in loud)
        quiet = [steps for steps, one in ranges if not leaves_out_0(one)]
        rest = f". Not distinguishable from 0: {', '.join(quiet)}" if quiet else ""
        by = "Steps whose exchange alone changes it (mean of both orders, 95 % intervals in brackets)"
        sentences.append(f"{text}. {by}: {told}{rest}.")
    made = counted(int(str(record.settings["steps"])), "step")
    sentences.append(
        f"The first of {made} begins from the noise. Each interval holds by itself with 95 %, and covers the choice "
        "of noises for these two networks, not the seeds of training."
    )
    return sentences


def _metrics(record: AnalysisRecord) -> list[str]:
    found = [case(one.name, "stitched_change") for one in record.quantities]
    return [one[0] for one in found if one is not None and len(one) == 1]


def _ranges(record: AnalysisRecord, metric: str) -> list[tuple[str, Quantity]]:
    found = []
    for one in record.quantities:
        cases = case(one.name, "stitched_change")
        if cases is not None and len(cases) == 2 and cases[0] == metric:
            found.append((cases[1], one))
    return found


def _share(record: AnalysisRecord, metric: str, steps: str) -> str:
    share = record.quantity(f"stitched_share[{metric}, {steps}]")
    if share is None or share.low is None or share.high is None:
        return ""
    return f", {_percent(share.value)} % of the whole ({_percent(share.low)} to {_percent(share.high)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")
