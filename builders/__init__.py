"""Dataset builders: one module for each dataset, each a step of the pipeline; pair rules as SQL; the embedded seeds."""
