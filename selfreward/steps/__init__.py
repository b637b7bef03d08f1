"""What a step is (`step`), the run of all steps (`pipeline`), journalled generation, and what a run still has to do (`status`)."""
