"""Outcomes: what became of predictions once their labels had come."""

from lakehouse.monitoring.outcomes.measures import Bin, Calibration, Segment, Threshold
from lakehouse.monitoring.outcomes.measuring import TABLE, Outcomes, measure_outcomes

__all__ = ["TABLE", "Bin", "Calibration", "Outcomes", "Segment", "Threshold", "measure_outcomes"]
