"""Steps: what one is (`step`), running them all (`pipeline`), journalled `generation`, and the `status` of a run."""
