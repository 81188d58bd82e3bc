"""The one way in: plan, read, validate, quarantine, raw; exactly once."""
