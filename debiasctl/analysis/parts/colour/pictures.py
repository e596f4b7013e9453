"""The pictures of the colour doctor: what shift each intervention leaves, and samples from the same noises."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.colour.findings import verdict_of
from debiasctl.analysis.parts.colour.interventions import cause_of
from debiasctl.analysis.record import AnalysisRecord, Quantity
from debiasctl.reporting.arm_grids import GridRow, draw_arm_grid
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.shift_pictures import ShiftPanel, ShiftRow, draw_shifts
from debiasctl.reporting.study_data import arm_styles, mean_of

_LABELS = {
    "as_sampled": "as sampled", "ideal_denoiser": "ideal denoiser", "mean_error_subtracted": "mean error subtracted",
    "noised_start": "start from noised images", "more_steps": "more steps", "no_clipping": "no clipping",
    "no_guidance": "no guidance", "fixed_variance": "fixed variance", "eps_scaled": "eps scaled",
    "heldout_reference": "training vs held-out images",
}  # fmt: skip
_MOST_ROWS = 10  # of samples


def pictures_of(records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
    """A panel of shifts for each arm, and samples of each run."""
    return [_shifts(records), *_samples(records, images)]


def _shifts(records: Sequence[AnalysisRecord]) -> Picture:
    arms = list(dict.fromkeys(record.network.arm for record in records))
    panels = [_panel(arm, [record for record in records if record.network.arm == arm]) for arm in arms]
    seeds = max(sum(record.network.arm == arm for record in records) for arm in arms)
    interval = "95 % t interval over training seeds" if seeds > 1 else "95 % interval over the drawing of images"
    return Picture(
        name="colour-shifts",
        title="Shift of the samples' colour under each intervention",
        caption=(
            "Mean of the samples minus that of the training images, in [-1, 1], by channel, as sampled and with one "
            f"thing changed at a time, from the same noises, with its {interval}. At the right: how much of the "
            "squared shift goes away. A bold row is on the main cause, where one could be named. A mark at the edge "
            "lies beyond."
        ),
        alt=f"Forest plot of colour shifts of {len(panels)} arm(s): {', '.join(row.label for row in panels[0].rows)}",
        data=[
            {
                "arm": panel.title,
                "rows": [
                    {
                        "row": row.label, "removed": row.note,
                        "channels": [
                            {"channel": name, "value": value, "low": low, "high": high}
                            for name, value, low, high in row.values
                        ],
                    }
                    for row in panel.rows
                ],
            }
            for panel in panels
        ],
        draw=lambda width: draw_shifts(
            panels, x_label="shift of the mean, in [−1, 1]", note_label="removed", width=width
        ),
        text=lambda width: _text(panels, width),
    )  # fmt: skip


def _panel(arm: str, records: Sequence[AnalysisRecord]) -> ShiftPanel:
    causes = {verdict_of(record).cause for record in records}
    (cause,) = causes if len(causes) == 1 else (None,)
    keys = ["as_sampled"]
    for record in records:
        keys += [key for key in _keys(record) if key not in keys]
    rows = []
    for key in keys:
        prefix = {"as_sampled": "mean_shift[", "heldout_reference": "data_shift["}.get(key, f"shift_left[{key},")
        shares = [one.value for record in records for one in record.quantities if one.name == f"share_removed[{key}]"]
        note = f"{100 * sum(shares) / len(shares):.0f} %".replace("-0 %", "0 %").replace("-", "−") if shares else ""
        strong = cause is not None and key != "as_sampled" and cause_of(key) == cause
        rows.append(ShiftRow(_LABELS[key], _values(records, prefix), note, strong))
    return ShiftPanel(arm, rows)


def _keys(record: AnalysisRecord) -> list[str]:
    found = [
        one.name.partition("[")[2].partition(",")[0] for one in record.quantities if one.name.startswith("shift_left[")
    ]
    return [*dict.fromkeys(found), *(["heldout_reference"] if record.quantity("data_shift_p") else [])]


def _values(records: Sequence[AnalysisRecord], prefix: str) -> list[tuple[str, float, float | None, float | None]]:
    """Each channel's value, over seeds if there are several."""
    found: dict[str, list[Quantity]] = {}
    for record in records:
        for one in record.quantities:
            if one.name.startswith(prefix):
                found.setdefault(one.name.removesuffix("]").replace("[", ",").rpartition(",")[2], []).append(one)
    values: list[tuple[str, float, float | None, float | None]] = []
    for channel, several in found.items():
        if len({one.value for one in several}) == 1:  # one run, or what training does not change
            values.append((channel, several[0].value, several[0].low, several[0].high))
        else:
            mean = mean_of([one.value for one in several])
            values.append((channel, mean.value, mean.low, mean.high))
    return values


def _samples(records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
    """Samples of one run under all interventions, or of several as they are and under the one that takes most away."""
    rows: list[GridRow] = []
    for record, arrays in zip(records, images, strict=True):
        order = [key for key in _LABELS if key in arrays]
        if len(records) > 1:
            best = [one.name.partition("[")[2].removesuffix("]") for one in verdict_of(record).by]
            order = ["as_sampled", *[key for key in best if key in arrays][:1]]
        before = f"{record.network.run}: " if len(records) > 1 else ""
        rows += [GridRow(f"{before}{_LABELS[key]}", _pixels(arrays[key])) for key in order if key in arrays]
    rows = [row for row in rows if row.images.shape[1:] == rows[0].images.shape[1:]][:_MOST_ROWS]
    if not rows:
        return []
    styles = arm_styles([row.arm for row in rows])
    names = ", ".join(row.arm for row in rows)
    return [
        Picture(
            name="colour-samples",
            title="Samples under each intervention, from the same noises",
            caption="The same noise is in each column. One thing is changed in each row.",
            alt=f"Samples in rows: {names}",
            data=[row.arm for row in rows],
            draw=lambda width: draw_arm_grid(rows, styles, width=width),
        )
    ]


def _pixels(images: Any) -> Any:
    """uint8 [N, H, W, C'] of images [N, C, H, W] in [-1, 1]; of other than 1 or 3 channels, the first."""
    pixels = np.clip((np.asarray(images) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels if pixels.shape[3] == 3 else pixels[..., 0]


def _text(panels: Sequence[ShiftPanel], width: int) -> str:
    """The rows as text: label, and each channel's shift with its interval."""
    lines = []
    for panel in panels:
        lines.append(panel.title[:width])
        room = max(len(row.label) for row in panel.rows)
        for row in panel.rows:
            parts = [
                f"{name} {value:+.3f}" + ("" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})")
                for name, value, low, high in row.values
            ]
            lines.append(f"  {row.label:<{room}}  {', '.join(parts).replace('-', '−')}  {row.note}".rstrip())
    return "\n".join(lines)
