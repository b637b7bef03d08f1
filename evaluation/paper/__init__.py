"""The paper's figures and claims beside a run's."""
