"""Draws the curves of a training step from TensorBoard's event file: python docs/plot_events.py FOLDER FILE.png

Loss, margin of rewards and norm of the gradient over steps, whichever were written.
"""

from __future__ import annotations

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_CURVES = ("train/loss", "train/rewards/margins", "train/grad_norm")


def draw(folder: str, picture: str) -> None:
    """Write the picture."""
    events = EventAccumulator(folder)
    events.Reload()
    names = [name for name in _CURVES if name in events.Tags()["scalars"]]
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        values = events.Scalars(name)
        axis.plot([value.step for value in values], [value.value for value in values], color="#3b6fb6")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    draw(*sys.argv[1:])
