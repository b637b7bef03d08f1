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

from selfreward.unkeyed import Arm, Count, KeyedApart, Section, Share, Unkeyed

# what the paper leaves unstated is our choice: one to three epochs, and TRL's defaults for the rest (no
# weight decay, clipping at 1.0, no warm-up)
# Not offered: `discopop`, whose slope at the start (TRL's tau 0.05) widens no margin but narrows it; `aot`, which sorts the
# pairs that a device has at once, so that the loss would change with `per_device_batch_size`.
Loss = Literal[
    "sigmoid", "sigmoid_norm", "robust", "ipo", "hinge", "exo_pair", "apo_zero", "apo_down", "nca_pair", "bco_pair",
    "sppo_hard", "kto",
]  # fmt: skip
SMOOTHED = ("robust", "exo_pair")
"""The losses that read `label_smoothing`: TRL 1.16 ignores it in all others, `sigmoid` included."""

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
    """Trackers, as transformers names them: `tensorboard`, `wandb`, …"""

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
    order: Arm[Literal["random", "by_prompt"]] = "random"
    """`random`: drawn anew in each epoch. `by_prompt`: the replies to one prompt come one after the other, the prompts in a
    random order that each epoch repeats. A small judge learns from the contrast what it does not learn from the rows apart
    (docs/control.md)."""

    @model_validator(mode="after")
    def _one_order(self) -> SftConfig:
        if self.order == "by_prompt" and self.length_grouped:
            raise ValueError("length_grouped and order: by_prompt exclude each other; leave one out")
        return self


class DpoConfig(TrainingConfig):
    """Direct preference optimization on one iteration's pairs (paper section 3.1.2; arXiv 2305.18290, eq. 7)."""

    learning_rate: Rate = 1e-6
    """At the first step."""
    min_learning_rate: float = Field(1e-7, ge=0, le=1)
    """At the end of the last step."""
    beta: float = Field(0.1, gt=0)
    """Strength of the pull towards the start model."""
    per_device_batch_size: Count = 2
    """Pairs; each is two sequences. Loss `kto`: answers, an even number."""
    loss: Arm[Loss] = "sigmoid"
    """TRL's name of the loss: `sigmoid` is the paper's DPO, `sigmoid_norm` normalizes by length, `kto` takes the pairs
    apart into good and bad answers; docs/arms.md says what each is for."""
    label_smoothing: Arm[float] = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs that are the wrong way round. Losses `robust` and `exo_pair` only; TRL ignores it in others."""
    sft_weight: Arm[float] = Field(0.0, ge=0)
    """Weight of a term that raises the chosen answers' log-probability, beside the loss (RPO, arXiv 2404.19733)."""
    reference: KeyedApart[Literal["previous", "first"]] = "previous"
    """Model that the loss compares with: `previous` (M_k, the paper's) or `first` (M1)."""
    start: KeyedApart[Literal["previous", "first"]] = "previous"
    """Model that the training starts from: `previous` (M_k, the paper's) or `first` (M1)."""

    @model_validator(mode="after")
    def _loss_reads_its_settings(self) -> DpoConfig:
        # TRL takes settings that a loss never reads without a word: a run would say that it used them.
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise ValueError(
                f"label_smoothing {self.label_smoothing:g}: TRL ignores it in the loss {self.loss}; use loss: robust "
                "(or exo_pair), or leave it out"
            )
        if self.loss == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss exo_pair needs label_smoothing above 0, such as 0.001")
        if self.loss == "kto" and self.sft_weight:
            raise ValueError(
                "sft_weight: TRL has no such term for the loss kto; use another loss, or leave it out"
            )
        if self.loss == "kto" and self.length_grouped:
            raise ValueError("length_grouped: the loss kto needs its rows in order; leave it out")
        if self.loss == "kto" and self.per_device_batch_size % 2:
            raise ValueError(
                f"per_device_batch_size {self.per_device_batch_size}: the loss kto compares the answers of a batch with "
                "each other; use an even number"
            )
        return self
