"""Learning: from a training set to a registered model and its predictions."""
