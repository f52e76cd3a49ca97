"""Figures of a result, and what the run says of itself, in words.

Knows the names of metrics; no Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

_NAMES = {"residual": "residual", "held_out_residual": "held-out residual", "lora_shift": "LoRA shift"}


def in_words(metrics: Mapping[str, Any]) -> str:
    """Return the figures in one line, and below it the sentences of the run on the volume and the scan.

    Parameters
    ----------
    metrics : mapping
        Of a `Reconstruction`, maybe from a file; what is not there, or of another type, is left out.
    """
    parts = [f"{text} {metrics[name]:.3g}" for name, text in _NAMES.items() if isinstance(metrics.get(name), Real)]
    if isinstance(metrics.get("seconds"), Real):
        parts.append(f"{metrics['seconds']:.1f} s on {metrics.get('device', 'cpu')}")
    sentences = [metrics[name] for name in ("verdict", "misfit") if isinstance(metrics.get(name), str)]
    return "\n".join(filter(None, (" · ".join(parts), *sentences)))
