"""Parameters of the two training steps; the defaults are the paper's (v2 and later), where it states any.

    sft:
      learning_rate: 5.5e-6
      lora: {r: 16, alpha: 32}

Plain data: nothing heavy is imported here. Fields of type `Unkeyed` change speed, refusals or records, never the
trained weights; `keyed()` leaves them out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfreward.unkeyed import Count, Section, Share, Unkeyed

# what the paper leaves unstated is our choice: one to three epochs, and TRL's defaults for the rest (no
# weight decay, clipping at 1.0, no warm-up)
Rate = Annotated[float, Field(gt=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class LoraConfig(Section):
    """Train low-rank adapters instead of all weights; they are merged into the weights when the model is saved."""

    r: Count = 16
    """Rank of the adapters."""
    alpha: float = Field(32, gt=0)
    """An adapter's output is scaled by alpha / r."""
    dropout: Dropout | None = None
    """On the adapters' input; None takes the section's `dropout`. Costly on a CPU (a third of a step)."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers get adapters: `all-linear` (all but the output layer) or layer names such as `q_proj`."""


class TrainingConfig(Section):
    """What SFT and DPO share."""

    learning_rate: Rate
    """At the first step."""
    min_learning_rate: float = Field(ge=0, le=1)
    """Reached at the end of the last step: the paper's schedules fall to a floor, not to zero."""
    scheduler: Literal["cosine", "linear"] = "cosine"
    """How the rate falls: `cosine` (v2 and later) or `linear` (v1)."""
    batch_size: Count = 16
    """Rows (SFT) or pairs (DPO) of one optimizer step, over all processes."""
    epochs: float = Field(1, gt=0)
    """Passes over the rows; unstated in the paper."""
    max_steps: Count | None = None
    """Optimizer steps; set, it replaces `epochs`."""
    dropout: Dropout = 0.1
    """Of attention weights, and of LoRA's inputs unless `lora.dropout` says otherwise. Llama and Qwen hold no other
    dropout layers, so that this is what acts."""
    lora: LoraConfig | None = None
    """None trains all weights, as the paper does."""
    max_length: Count | None = None
    """Tokens of prompt and answer together; None is the model's context. What is longer is cut or dropped, and
    counted by the preflight."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Of the forward and backward pass. `bf16` is autocast: the weights stay float32. `auto` is bf16 where the device
    multiplies in it (GPUs since Ampere, CPUs with AMX), else float32."""
    save_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the saved weights. A learning rate of 1e-6 changes 4 of 1,000 weights once rounded to bfloat16."""
    per_device_batch_size: Count = 4
    """At most so many rows or pairs at once on a device; the rest of a batch is accumulated."""
    length_grouped: bool = False
    """Batches of rows of similar length: less padding, less random order."""
    gradient_checkpointing: Unkeyed[bool] = False
    """Less memory for about a fifth more time."""
    seed: int = Field(0, ge=0)
    """Of the order of rows, dropout and adapters' first values."""
    resume: Unkeyed[Literal["checkpoint", "scratch"]] = "checkpoint"
    """After an interruption: from the last whole checkpoint, or anew (no checkpoints are written)."""
    checkpoint_every_steps: Unkeyed[Count] = 200
    """As in the paper (section 3.1.2)."""
    min_rows: Unkeyed[Count] = 1
    """Fewer rows or pairs than this are refused."""
    max_truncated_share: Unkeyed[Share] = 0.01
    """More rows cut at `max_length` than this are refused. A judgement (EFT row) may never be cut."""
    max_dropped_share: Unkeyed[Share] = 0.01
    """More rows dropped (empty, a prompt without room for an answer) or malformed (a doubled begin or end token) than
    this are refused."""
    effect_rows: Unkeyed[Count] = 64
    """Rows on which the change of log-probability is measured after training."""
    report_to: Unkeyed[tuple[str, ...]] = ()
    """Trackers, as transformers names them: `tensorboard`, `trackio`, `wandb`, …; the first two write into the run folder's
    `trackers/` (docs/report.md)."""

    @model_validator(mode="after")
    def _rate_falls(self) -> TrainingConfig:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}"
            )
        return self


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on IFT and EFT rows, loss on the target only (paper section 3.1.2)."""

    learning_rate: Rate = 5.5e-6
    """At the first step."""
    min_learning_rate: float = Field(1.1e-6, ge=0, le=1)
    """At the end of the last step."""
    epochs: float = Field(3, gt=0)
    """Passes over the rows; unstated in the paper."""


class DpoConfig(TrainingConfig):
    """Direct preference optimisation on one iteration's pairs (paper section 3.1.2; arXiv 2305.18290, eq. 7)."""

    learning_rate: Rate = 1e-6
    """At the first step."""
    min_learning_rate: float = Field(1e-7, ge=0, le=1)
    """At the end of the last step."""
    beta: float = Field(0.1, gt=0)
    """Strength of the pull towards the start model."""
    per_device_batch_size: Count = 2
    """Pairs; each is two sequences."""
