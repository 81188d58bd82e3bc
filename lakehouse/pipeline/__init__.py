"""What spans several parts of the library: adding a dataset, running it to predictions, querying, the demo."""
