"""Learning: from a training set to a registered model and its predictions."""

from lakehouse.learning.familiarity import DataWarning
from lakehouse.learning.file_prediction import predict_file
from lakehouse.learning.lifecycle.watching import rollout_due, watch_rollout
from lakehouse.learning.prediction import predict_batch
from lakehouse.learning.registry import CHALLENGER, CHAMPION, LoadedModel, Registry
from lakehouse.learning.results import BEATS_BASELINE, MINIMUMS, CandidateReport, ModelCheck, PredictReport, TrainReport
from lakehouse.learning.tested import Confusion, Pairs
from lakehouse.learning.training import train

__all__ = [
    "BEATS_BASELINE",
    "CHALLENGER",
    "CHAMPION",
    "MINIMUMS",
    "CandidateReport",
    "Confusion",
    "DataWarning",
    "LoadedModel",
    "ModelCheck",
    "Pairs",
    "PredictReport",
    "Registry",
    "TrainReport",
    "predict_batch",
    "predict_file",
    "rollout_due",
    "train",
    "watch_rollout",
]
