"""Format the metrics and verdicts of a result as text.

Handles the names of metrics; no Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from napari_d3ip.reconstruction.result import adaptation_end

_NAMES = {"residual": "residual", "held_out_residual": "held-out residual", "lora_shift": "LoRA shift"}


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Format the metrics in one line, and below it the sentences of the run on the volume and the scan.

    Parameters
    ----------
    metrics : mapping
        Metrics of a `Reconstruction`, possibly from a file; missing ones, and those of another type, are skipped.
    """
    parts = [f"{text} {metrics[name]:.3g}" for name, text in _NAMES.items() if isinstance(metrics.get(name), Real)]
    if isinstance(metrics.get("seconds"), Real):
        parts.append(f"{metrics['seconds']:.1f} s on {metrics.get('device', 'cpu')}")
    if (ended := adaptation_end(metrics)) is not None:
        parts.append(ended)
    sentences = [metrics[name] for name in ("verdict", "misfit") if isinstance(metrics.get(name), str)]
    return "\n".join(filter(None, (" · ".join(parts), *sentences)))
