"""Method tables, sweeps and figures: what the methods make of scans, side by side. Knows no Qt."""

from napari_d3ip.evaluate.demo import run_demo
from napari_d3ip.evaluate.runs import Evaluation, Plan, evaluate
from napari_d3ip.evaluate.scans import Scan, open_scans
from napari_d3ip.evaluate.tasks import Task

__all__ = ["Evaluation", "Plan", "Scan", "Task", "evaluate", "open_scans", "run_demo"]
