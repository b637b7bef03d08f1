"""The run configuration: everything a run needs, typed. Defaults are the paper's (v2).

    config = load_config(Path("configs/demo.yaml"), overrides=["judging.samples=1"])      # selfreward.config.files

Each section is the parameters of one stage; a stage sees nothing else, so a parameter that is not part of its
dataset's key cannot change its rows. The type of a field marks those outside the key (`selfreward.unkeyed`).
`selfreward init` writes a commented configuration.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from selfreward.config.by_iteration import Lists, problem_with, split_lists, with_lists
from selfreward.config.data import (
    CandidatesConfig,
    EftConfig,
    IftConfig,
    PromptsConfig,
    SeedsConfig,
    SplitConfig,
)
from selfreward.config.evaluation import AlpacaConfig, EvaluateConfig
from selfreward.config.judging import JudgingConfig, PairsConfig, ScoresConfig
from selfreward.config.meta import MetaConfig
from selfreward.config.training import DpoConfig, SftConfig
from selfreward.unkeyed import MONEY, Count, Section, Unkeyed


class EngineConfig(Section):
    """How text is generated; see selfreward/engines/base.py."""

    batch_size: Count = 16
    """hf: rows in a batch."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights while generating."""
    max_context: int = Field(0, ge=0)
    """Tokens of prompt and answer together; 0 is the model's own limit."""
    max_in_flight: Unkeyed[Count] = 64
    """Requests at once (openai, vllm)."""
    timeout_s: Unkeyed[float] = Field(120.0, gt=0)
    """Seconds a server may take for one request."""
    max_retries: Unkeyed[int] = Field(6, ge=0)
    """Of a request that failed for a passing reason."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Passed to the engine's constructor (vllm: `tensor_parallel_size`, …). What is in its section `ray` is about
    where `ray:` runs, and not keyed."""

    def keyed(self) -> dict[str, Any]:
        """`extra` without prices, limits and the section `ray`."""
        # prices and the place where `ray:` runs change no text, so they must not rebuild a dataset
        extra = {name: value for name, value in self.extra.items() if name not in (*MONEY, "ray")}
        return {**super().keyed(), "extra": extra}


class RunConfig(Section):
    """Everything a run needs."""

    run: Unkeyed[str] = "runs/run"
    """The run folder."""
    seed: int = Field(0, ge=0)
    """Every draw of the run is made from it."""
    iterations: int = Field(1, ge=1, le=99)
    """Each gives prompts, candidates, judgements, scores, pairs and the next model: 1 ends with M2, 2 with M3."""
    model: str = "hf:smollm2-135m-instruct"
    """M0: the model everything starts from. Training needs a local folder or a known name behind `hf:`/`vllm:`."""
    update: Literal["dpo", "sft"] = "dpo"
    """How iteration k makes the next model from its pairs: `dpo`, or `sft` on the chosen answers alone."""
    train: bool = True
    """Off: datasets only. No model is trained, and M1 is `model` itself (a server, say); one iteration."""
    seeds: SeedsConfig = SeedsConfig()
    split: SplitConfig = SplitConfig()
    ift: IftConfig = IftConfig()
    eft: EftConfig | None = EftConfig()
    """Null: no evaluation fine-tuning, and nothing is measured on its eval split; the judge is another model, or M_k as
    it is."""
    sft: SftConfig = SftConfig()
    prompts: PromptsConfig = PromptsConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    judging: JudgingConfig = JudgingConfig()
    scores: ScoresConfig = ScoresConfig()
    pairs: PairsConfig = PairsConfig()
    meta: MetaConfig | None = None
    """Meta-rewarding: judgements compared and trained on as well; `{}` turns it on (docs/meta-rewarding.md)."""
    dpo: DpoConfig = DpoConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    engine: EngineConfig = EngineConfig()
    gate: Unkeyed[bool] = True
    """Run the audits before training, and stop if one of severity `fail` fails. Off is recorded in the model's
    manifest."""
    gate_thresholds: Unkeyed[dict[str, float]] = Field(default_factory=dict)
    """Other thresholds for the gate, by audit: {contaminated_prompts: 3}. Recorded in the model's manifest."""
    max_cost: Unkeyed[float | None] = Field(None, ge=0)
    """Limit for paid servers over the whole run, in the currency of their prices."""

    _lists: Lists = PrivateAttr(default_factory=dict)

    @model_serializer(mode="wrap")
    def _with_lists(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return with_lists(handler(self), self._lists)

    def at(self, iteration: int) -> RunConfig:
        """The configuration of one iteration: of every list by iteration, its entry."""
        if not self._lists:
            return self
        values = with_lists(self.model_dump(mode="json"), self._lists, iteration)
        return RunConfig.model_validate(values)

    def named_models(self, names: list[str], iteration: int) -> list[str]:
        """`current`, `previous` and `first` as models of an iteration (`M2`); each model once."""
        called = {"current": f"M{iteration}", "previous": f"M{iteration - 1}", "first": "M1"}
        found: dict[str, str] = {}
        for model in (called.get(name, name) for name in names):
            # Without training, every M_k is the configured model.
            found.setdefault("M0" if not self.train and model in called.values() else model, model)
        return list(found.values())

    def each_iteration(self) -> list[RunConfig]:
        """The configurations of all iterations; one if they do not differ."""
        return [self.at(k) for k in range(1, self.iterations + 1)] if self._lists else [self]

    @property
    def alpaca(self) -> AlpacaConfig | None:
        """What alpaca-eval measures; None if it is off, or if its prompts were those of an EFT that is off."""
        alpaca = self.evaluate.alpaca
        return None if alpaca and alpaca.prompts == "eft_eval" and self.eft is None else alpaca

    @model_validator(mode="after")
    def _shares_fit(self) -> RunConfig:
        if self.split.eft_train + self.split.eft_eval > 1:
            raise ValueError(
                f"split.eft_train {self.split.eft_train} and split.eft_eval {self.split.eft_eval} add up to more than 1"
            )
        if not self.train and self.iterations > 1:
            raise ValueError("train: false makes the datasets of one iteration; set iterations: 1")
        if self.judging.min_score >= self.judging.max_score:
            raise ValueError("judging.min_score must be below judging.max_score")
        if self.meta is not None and (self.judging.mode != "sampled" or self.judging.samples < 2):
            raise ValueError(
                "meta compares the sampled judgements of one answer; set judging.mode: sampled and judging.samples: 2 "
                f"or more, found {self.judging.mode} and {self.judging.samples}"
            )
        if self.meta is not None and self.update != "dpo":
            raise ValueError(
                f"meta: pairs of judgements are for DPO; found update: {self.update}, expected dpo"
            )
        return self

    # After the check above, which so sees the values of each iteration.
    @model_validator(mode="wrap")
    @classmethod
    def _by_iteration(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take the lists by iteration out, then check the values of every iteration."""
        if not isinstance(values, dict):
            return handler(values)
        first, lists = split_lists(values, cls)
        config = handler(first)
        if problem := problem_with(lists, config.iterations):
            raise ValueError(problem)
        for iteration in range(2, config.iterations + 1) if lists else ():
            handler(with_lists(first, lists, iteration))
        config._lists = lists
        return config
