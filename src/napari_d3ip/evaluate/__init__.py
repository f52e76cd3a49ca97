"""Compare methods on scans: tables, sweeps and figures. No Qt."""

from napari_d3ip.evaluate.demo import run_demo
from napari_d3ip.evaluate.plan import Plan
from napari_d3ip.evaluate.runs import Evaluation, evaluate
from napari_d3ip.evaluate.scans import Scan, open_scans
from napari_d3ip.evaluate.tasks import Task, parse_tasks
from napari_d3ip.evaluate.tuning import Tuning

__all__ = ["Evaluation", "Plan", "Scan", "Task", "Tuning", "evaluate", "open_scans", "parse_tasks", "run_demo"]
