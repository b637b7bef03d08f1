"""The run configuration: one YAML file, typed, checked before anything runs. Defaults are the paper's (v2).

    config = load_config(Path("configs/demo.yaml"), overrides=["judging.samples=1"])

Each section below is the parameters of one stage; a stage sees nothing else, so a parameter that is not part of its
dataset's key cannot change its rows. The type of a field marks those outside the key (`selfreward.unkeyed`).
`selfreward init` writes a commented configuration.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from selfreward.config.by_iteration import Lists, problem_with, split_lists, with_lists
from selfreward.config.meta import MetaConfig
from selfreward.config.training import DpoConfig, SftConfig
from selfreward.errors import ConfigError
from selfreward.text import check_pattern, shorten
from selfreward.unkeyed import MONEY, Arm, Count, KeyedApart, Section, Share, Unkeyed

SEED_ROLES = (
    "prompt",
    "response",
    "rank",
    "score",
    "prompt_id",
    "response_id",
    "quality",
    "lang",
    "judgement",
)


class SeedsConfig(Section):
    """Where the human-ranked seed replies come from (paper section 3.1.1: Open Assistant)."""

    source: str = "embedded"
    """`embedded`, `rules` (the control experiment's prompts, each with one rule that a program checks), a local file (message-per-line, tree-per-line or a ranked table; plain or .gz), or the name of a
    Hub dataset such as `OpenAssistant/oasst1`."""
    format: Literal["auto", "messages", "trees", "table"] = "auto"
    """What the file holds; `auto` goes by the columns of its first row."""
    revision: str | None = None
    """Hub revision; the commit that it stood for is in the notes of the manifest of `seeds`."""
    hub_split: str = "train"
    """Split of a Hub dataset."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For a table, `role: column in the file` (`prompt: question`): which of its columns is `prompt`, `response`, `rank`
    (0 best) or `score` (higher is better), and optionally `prompt_id`, `response_id`, `quality`, `lang`, `judgement`."""
    lang: str = "en"
    """Language of the rows that are used, where the source says it."""

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, columns: dict[str, str]) -> dict[str, str]:
        for role in sorted(columns.keys() - set(SEED_ROLES)):
            near = difflib.get_close_matches(role, SEED_ROLES, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ValueError(
                f"{role!r} is no role{hint} Write `role: column in the file`; the roles are {', '.join(SEED_ROLES)}"
            )
        return columns


class SplitConfig(Section):
    """Which seed prompts go where. Disjoint by prompt; drawn by a hash of the prompt's id and the seed."""

    eft_train: Share = 0.4
    """Share of the prompts with at least two ranked replies whose replies become EFT training rows."""
    eft_eval: Share = 0.13
    """Likewise for EFT evaluation rows, which nothing is ever trained on."""
    ift_also_uses_eft_train: bool = False
    """Whether IFT may take the best reply of EFT training prompts too (the paper keeps them apart)."""


class IftConfig(Section):
    """Instruction fine-tuning rows: first turn, best human rank (paper: 3,200)."""

    n_max: int = Field(3200, ge=1)
    """Rows at most; which ones is drawn by hash."""
    min_quality: float | None = None
    """Lowest `quality` label; NULL labels pass."""
    max_chars: int = Field(20_000, ge=1)
    """Of prompt and response together."""


class EftConfig(Section):
    """Evaluation fine-tuning rows (paper: 1,630 train and 541 eval)."""

    targets: Literal["written", "generated", "ranks", "quality"] = "generated"
    """`written`: the seeds' own judgements. `generated`: by the SFT baseline, kept by agreement with people. `ranks`,
    `quality`: the score alone that a reply's rank (best: highest, worst of its prompt: lowest) or quality label stands for;
    no model writes, and no justification is learnt."""
    samples: Count = 4
    """Generated judgements for each response."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 400
    """New tokens of a generated judgement."""
    agreement: Literal["strict", "no_inversion", "best"] = "strict"
    """`strict`: the scores order the prompt's responses exactly as the ranks do, ties count as disagreement;
    `no_inversion`: no worse response scores above a better one, ties are fine; `best`: the human's best alone has the
    highest score."""
    max_share_per_score: Share = 0.4
    """The most common scores are down-sampled until none holds a larger share of the training rows; 1 turns it off."""


class PromptsConfig(Section):
    """Self-instructed prompts (paper section 2.2; filters of Self-Instruct)."""

    n: Count = 5000
    """Prompts to keep in each iteration."""
    source: KeyedApart[str | None] = None
    """Null: the generator writes the prompts. `rules`: the control experiment's, each with one rule. A file (json, jsonl, csv, parquet; .gz is fine) or the name of a Hub dataset:
    each iteration takes its next `n` prompts, none is used twice."""
    column: KeyedApart[str | None] = None
    """With `source`: the column of the prompts; null takes `prompt`, `instruction` (with `input`), `question` or `messages`."""
    hub_split: KeyedApart[str] = "train"
    """With `source`: split of a Hub dataset."""
    revision: KeyedApart[str | None] = None
    """With `source`: Hub revision; the commit that it stood for is in the notes of the manifest of `prompts`."""
    generator: KeyedApart[str] = "fixed"
    """`fixed` (the configured `model`, as the paper's fixed chat model), `current` (M_k), or a model string."""
    n_demonstrations_ift: Count = 6
    """Prompts of IFT rows that are shown."""
    n_demonstrations_generated: int = Field(2, ge=0)
    """Prompts kept earlier that are shown with them."""
    samples_per_draw: Count = 1
    """Completions from one draw of demonstrations; more of them share the prompt's prefix."""
    round_size: Count = 512
    """Requests in a round; later rounds draw demonstrations from what earlier ones kept."""
    max_rounds: Count = 64
    """The step ends here, also with fewer prompts than `n`; the rest is counted."""
    temperature: float = Field(0.6, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 256
    """New tokens of a completion."""
    lang: KeyedApart[str] = "en"
    """Language of the filters' words: en, de, fr, es, it, or the path of a file of your own (docs/chats.md)."""
    system: Arm[str | None] = None
    """A system turn before every generated prompt: candidates, judge and pairs see it."""
    max_rouge_l: Share = 0.7
    """A prompt more like an earlier one than this is dropped (`not_novel`)."""
    evaluation_sets: KeyedApart[list[str]] = Field(default_factory=list)
    """Files of evaluation prompts to keep out (AlpacaEval's, MT-Bench's): json, jsonl or csv with an `instruction`,
    `prompt` or `turns` column; .gz is fine. The EFT eval split is always kept out. All 188 prompts of Open Assistant's
    English validation set are AlpacaEval's: named here they are no IFT or EFT rows."""


class CandidatesConfig(Section):
    """Responses of the current model (paper: N = 4, T 0.7, top-p 0.9)."""

    n: int = Field(4, ge=2)
    """Responses to each prompt."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 1024
    """New tokens of a response."""
    reasoning: Arm[Literal["keep", "apart"]] = "keep"
    """`apart`: the block that a model thinks in (`<think>`, …) becomes the column `reasoning`, which no judge sees."""
    also: KeyedApart[list[str]] = Field(default_factory=list)
    """Further models that answer each prompt `n` times: `previous` (M_k-1), `first` (M1), `M0` or a model string. For the
    rule `past_future`."""


class JudgingConfig(Section):
    """LLM-as-a-Judge (paper: three sampled judgements, averaged)."""

    judge: KeyedApart[str | list[str]] = "current"
    """`current` (M_k, the paper's), `previous` (M_k-1), `first` (M1) or a model string; a list: each of them judges every
    candidate."""
    template: KeyedApart[str] = "additive"
    """`additive`, `additive-short`, `multiple-choice`, or the path of a template file."""
    more_templates: KeyedApart[list[str]] = Field(default_factory=list)
    """Further templates that each judge uses on the same candidates."""
    combine: KeyedApart[Literal["mean", "median", "majority", "worst", "first"]] = "mean"
    """With several judges or templates: a candidate's score from theirs. `majority`: the whole score nearest to most;
    `first`: the first judge's with the first template, the others are for rules and SQL."""
    mode: Literal["sampled", "expected"] = "sampled"
    """`sampled`: mean of sampled judgements. `expected`: mean score under the token probabilities at the score
    position, after a greedy justification (`justify: true`) or none."""
    justify: bool = True
    """Mode `expected`: a justification before the score."""
    samples: Count = 3
    """Judgements of each candidate (`sampled`)."""
    temperature: float = Field(0.7, ge=0)
    """Of sampling; 0 takes the likeliest token."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 400
    """New tokens of a judgement."""
    max_attempts: Count = 2
    """Completions asked for until a judgement has a score; the last one stands, scored or not."""
    score_pattern: Arm[str | None] = None
    """Regular expression (RE2) for a rubric with another ending, such as `Points: (?P<score>[0-9.]+)`; its last match in a
    judgement is the score. Null: the forms in docs/judging.md."""
    min_score: float = 0.0
    """Lowest score in range; what is below is `out_of_range`."""
    max_score: float = 5.0
    """Highest score in range."""
    collapse_share: KeyedApart[Share] = 0.98
    """The run stops with the histogram if one score holds more than this share of the scored judgements."""
    collapse_tied_share: KeyedApart[Share] = 0.98
    """Likewise if more than this share of the prompts with two or more scored candidates is tied."""

    @field_validator("judge")
    @classmethod
    def _some_judge(cls, judge: str | list[str]) -> str | list[str]:
        if not judge:
            raise ValueError("is an empty list; name at least one judge, such as current")
        return judge

    @field_validator("score_pattern")
    @classmethod
    def _readable_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _pattern_is_read(self) -> JudgingConfig:
        if self.score_pattern and self.mode == "expected":
            raise ValueError("score_pattern: mode expected reads no text; leave it out, or use mode: sampled")
        return self

    @property
    def judges(self) -> list[str]:
        """All of them."""
        return [self.judge] if isinstance(self.judge, str) else self.judge

    @property
    def templates(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([self.template, *self.more_templates]))


class ScoresConfig(Section):
    """What a candidate's score is; anything but the default is a control, to show what the judge's signal is worth."""

    source: Literal["judge", "shuffled", "rules"] = "judge"
    """`judge`: the mean of its judgements (the paper's). `shuffled`: the same scores, exchanged at random among the
    candidates of a prompt (negative control). `rules`: the highest score if a program finds the prompt's rules kept, else the
    lowest, NULL for a prompt without a rule it knows (gold control)."""


class PairsConfig(Section):
    """Preference pairs (paper: highest against lowest mean score; equal scores drop the prompt)."""

    rule: KeyedApart[str] = "max_min"
    """`max_min` (the paper's), `margin`, `margin_in_errors`, `near_ties`, `length_controlled`, `positive_only`, `all_pairs`,
    `consistent`, `past_future` (docs/arms.md), or the path of an .sql file over `scores`."""
    min_margin: float = Field(0.0, ge=0)
    """Rules `margin`, `all_pairs`: chosen beats rejected by more points than this; `margin_in_errors`: by more standard
    errors of the judge."""
    length_band: float = Field(0.5, ge=0)
    """Rule `length_controlled`: scores this close to the top (bottom) count as near it."""
    positive_score: float = 5.0
    """Rule `positive_only`: the mean score a response needs."""
    allow_injection_suspected: bool = False
    """Whether a candidate flagged `injection_suspected` may be chosen."""
    reasoning: Arm[bool] = False
    """With `candidates.reasoning: apart`: put the reasoning back before the answers, so that it is trained on."""
    min_pairs: KeyedApart[Count] = 8
    """Fewer pairs than this and the run stops before training, with the funnel."""
    use: KeyedApart[str] = "current"
    """Pairs that M_k is trained on: of the `current` iteration (the paper's), `all` so far, or of the `last 2` (3, …)."""
    min_scored: Arm[Count] = 1
    """A candidate with fewer scored judgements than this enters no pair (`too_few_scored`)."""
    max_similarity: Arm[Share] = 1.0
    """A pair whose answers are more alike than this is dropped (`near_identical`): Jaccard index of their runs of five
    words, as in the audit `near_duplicates`, which warns from 0.8."""
    per_prompt: Arm[Count] = 1
    """Pairs of a prompt at most. The rule `all_pairs` makes several."""
    level: Arm[float] = Field(0.05, gt=0, lt=1)
    """Rule `near_ties`: level of the test whether a prompt's scores differ by more than the judge's sampling error."""
    min_consistency: Arm[float] = Field(0.0, ge=-1, le=1)
    """Rule `consistent`: least rank correlation between the scores of the first two judges of a prompt's answers."""

    @field_validator("use")
    @classmethod
    def _known_use(cls, use: str) -> str:
        if not re.fullmatch(r"current|all|last [1-9]\d?", use):
            raise ValueError(f"found {use!r}; expected current, all, or last N, such as last 2")
        return use

    def n_used(self, iteration: int) -> int:
        """Iterations whose pairs are trained on, this one included."""
        wanted = {"current": 1, "all": iteration}.get(self.use) or int(self.use.removeprefix("last "))
        return min(wanted, iteration)


class AlpacaConfig(Section):
    """Answers of each model judged against reference answers with the alpaca-eval package."""

    prompts: str = "eft_eval"
    """`eft_eval` (best human reply of each EFT eval prompt as the reference), or a file in AlpacaEval's format."""
    judge: str = "fixed"
    """`fixed` (the configured `model`), `current`, `M1` or a model string; one judge for all models of a run."""
    mode: Literal["logprobs", "text"] = "logprobs"
    """`logprobs`: the judge's token probabilities, as alpaca-eval's weighted annotators; `text`: its written verdict."""
    both_orders: bool = True
    """Each comparison in both orders of the answers."""
    max_tokens: Count = 1024
    """New tokens of an answer."""
    n_max: int | None = None
    """Prompts at most; all of them by default."""


class JudgeEvalConfig(Section):
    """How well each model judges: ranked replies scored by M0, M1, M2… against their ranks."""

    replies: KeyedApart[str] = "eft_eval"
    """`eft_eval` (the EFT eval split), `rules` (the control experiment's held-out replies), or a file as for
    `seeds.source`."""
    samples: Count = 1
    """Judgements of each reply."""
    n_max: int | None = None
    """Rows of the eval split, whole prompts in hash order; all of them by default."""


class RuleEvalConfig(Section):
    """How often each model keeps rules that a program checks, on prompts with rules."""

    prompts: KeyedApart[str] = "rules"
    """`rules` (the control experiment's held-out prompts), or a file: IFEval's form, or prompts that state a rule in the
    words of `selfreward.judging.rules`."""
    samples: Count = 1
    """Answers to each prompt."""
    temperature: float = Field(0.7, ge=0)
    """Of the answers; 0 is greedy."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 512
    """New tokens of an answer."""
    n_max: int | None = None
    """Prompts at most; all of them by default."""


class EvaluateConfig(Section):
    """What is measured after training; an empty section (`alpaca: null`) turns a measure off."""

    alpaca: AlpacaConfig | None = AlpacaConfig()
    judge: JudgeEvalConfig | None = JudgeEvalConfig()
    rules: RuleEvalConfig | None = None


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


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read, override and check a configuration. ConfigError says file, key, what was found and expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; `selfreward init {path}` writes one to start from (--preset demo: the demo's)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a text file: {error}") from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(values).__name__}")
    for override in overrides or []:
        _apply_override(values, override)
    return check_config(values, str(path))


def check_config(values: dict[str, Any], where: str) -> RunConfig:
    """Validate plain values; `where` begins every message."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        # five at most: one wrong indentation makes every key below it unknown
        raise ConfigError("; ".join(_explain(where, problem) for problem in error.errors()[:5])) from error


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; it holds no secrets (keys come from the environment only)."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override!r}: expected key=value, such as judging.samples=1")
    *parents, last = name.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a single value, it has no keys below it")
    # parsed as YAML, as in the file: `true`, numbers and lists keep their types
    values[last] = yaml.safe_load(text)


def _explain(where: str, problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        # pydantic only says that the key is forbidden; the nearest one is what the user meant
        *parents, name = problem["loc"]
        known = _known_keys(parents)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = (
            f"did you mean {'.'.join([*map(str, parents), near[0]])}?"
            if near
            else f"known: {', '.join(known)}"
        )
        return f"{where}: unknown key {place!r}; {hint}"
    found = shorten(repr(problem.get("input")), 60)
    if problem["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{problem['ctx']['error']}"
    return f"{where}: {place}: found {found}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _known_keys(parents: list[Any]) -> list[str]:
    section: Any = RunConfig
    for parent in parents:
        annotation = section.model_fields[parent].annotation
        options = [annotation, *get_args(annotation)]
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if section is None:
            return []
    return list(section.model_fields)
