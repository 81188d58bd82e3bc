"""The metrics that a model contract can name."""

METRICS = {
    "classification": (
        "roc_auc",
        "average_precision",
        "f1",
        "f1_macro",
        "f1_weighted",
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "log_loss",
    ),
    "regression": ("r2", "rmse", "mae", "mape", "median_ae"),
}
# Measured, but nothing to choose an algorithm by: only two classes have it.
MINIMUMS_TOO = {"classification": ("brier",), "regression": ()}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae", "mape", "median_ae"})
