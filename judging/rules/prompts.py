"""The embedded prompts with rules: `topics/*.jsonl` crossed with the rules of `selfreward.judging.rules`.

Each prompt asks for something about a topic and states one rule; its replies are the same few sentences with and without
the rule kept, so that nothing but the rule tells them apart. Ranks and judgements come from the program's check.
Held-out prompts have topics, words, numbers and wordings of their own.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.judging.rules.rules import KINDS, Rule
from selfreward.tables import row_id

_VALUES = {
    "max_words": (("12", "15", "20"), ("14", "18")),
    "numbered_list": (("2", "3", "5"), ("4",)),
    "starts_with": (
        ("Well", "Honestly", "Sure", "First", "Listen", "Perhaps", "Dear", "Yes"),
        ("Frankly", "Look", "Friends"),
    ),
    "ends_with": (
        ("indeed", "friend", "enjoy", "always", "done", "promise", "now", "please"),
        ("today", "cheers", "truly"),
    ),
}
"""Kind -> values for training, values held out; `includes` and `avoids` take the topic's own word."""


TOPICS = Path(__file__).parent / "topics" / "training.jsonl"
ITERATION_TOPICS = Path(__file__).parent / "topics" / "iterations.jsonl"
HELD_OUT_TOPICS = Path(__file__).parent / "topics" / "held-out.jsonl"


@dataclass(frozen=True, slots=True)
class RulePrompt:
    """A prompt with its rule and two replies, the first of which keeps it."""

    prompt: str
    rule: Rule
    topic: str
    kept: str
    broken: str


def rule_prompts(held_out: bool, seed: int = 0) -> list[RulePrompt]:
    """Every topic with every kind of rule, in a fixed order."""
    lines = (HELD_OUT_TOPICS if held_out else TOPICS).read_text("utf-8").splitlines()
    topics = map(json.loads, lines)
    return [_prompt(topic, kind, held_out, seed) for topic in topics for kind in KINDS]


def ranked_replies(held_out: bool = False) -> list[tuple[int, dict[str, Any]]]:
    """Both replies of each prompt as rows of a ranked table, numbered from 1; the judgement is the score alone."""
    rows = [
        {"prompt": row.prompt, "response": reply, "rank": rank, "judgement": f"Score: {score}"}
        for row in rule_prompts(held_out)
        for rank, (reply, score) in enumerate(((row.kept, 5), (row.broken, 0)))
    ]
    return list(enumerate(rows, 1))


def held_out_replies() -> list[dict[str, Any]]:
    """The held-out replies with the columns of ranked replies."""
    return [
        {
            "prompt_id": row_id("q", row["prompt"]),
            "response_id": row_id("r", row["prompt"], row["response"]),
            "prompt": row["prompt"],
            "response": row["response"],
            "human_rank": row["rank"],
        }
        for _, row in ranked_replies(held_out=True)
    ]


def iteration_prompts() -> list[str]:
    """Prompts without replies, for the iterations: topics of their own, in a fixed order that mixes the kinds of rules."""
    topics = map(json.loads, ITERATION_TOPICS.read_text("utf-8").splitlines())
    prompts = [
        f"{topic['ask']}. {_stated(topic, kind, False, random.Random(f'{topic}/{kind}'))[1]}"
        for topic in topics
        for kind in KINDS
    ]
    random.Random(0).shuffle(prompts)
    return prompts


def _stated(topic: dict[str, Any], kind: str, held_out: bool, rng: random.Random) -> tuple[Rule, str]:
    """A rule of a kind, and the sentence that states it."""
    values = _VALUES.get(kind)
    own_word = topic["word"] if kind in ("includes", "avoids") else ""
    rule = Rule(kind, rng.choice(values[held_out]) if values else own_word)
    last = len(KINDS[kind].wordings) - 1
    return rule, rule.sentence(last if held_out else rng.randrange(last))


def _prompt(topic: dict[str, Any], kind: str, held_out: bool, seed: int) -> RulePrompt:
    rng = random.Random(f"{seed}/{topic['ask']}/{kind}")
    rule, sentence = _stated(topic, kind, held_out, rng)
    kept, broken = _replies(topic, rule, rng)
    assert (rule.kept_by(kept), rule.kept_by(broken)) == (True, False), (rule, kept, broken)
    return RulePrompt(f"{topic['ask']}. {sentence}", rule, topic["ask"], kept, broken)


def _replies(topic: dict[str, Any], rule: Rule, rng: random.Random) -> tuple[str, str]:
    short, long = topic["short"], topic["long"]
    # Mostly the short text: a judge learns a rule as well from ten words as from thirty, at half the cost.
    text = rng.choice((short, short, long))
    value = rule.value
    capital = value[:1].upper() + value[1:]
    match rule.kind:
        case "small_letters":
            return text.lower(), rng.choice((text, text, text.upper()))
        case "capitals":
            return text.upper(), rng.choice((text, text, text.lower()))
        case "max_words" | "one_sentence":
            return short, long
        case "numbered_list":
            n = int(value)
            other = rng.choice([m for m in (1, 2, 3, 4, 5, 6) if m != n])
            return _list(topic, n), rng.choice((_list(topic, other), text))
        case "starts_with":
            return f"{capital}, {text[0].lower()}{text[1:]}", rng.choice(
                (text, f"Now, {text[0].lower()}{text[1:]}")
            )
        case "ends_with":
            return f"{text} {capital}.", rng.choice((text, f"{text} Good luck."))
        case "includes":
            return long, _without(long, value, short)
        case "avoids":
            return _without(long, value, short), long
        case "no_commas":
            return long.replace(",", ""), long
        case _:
            return f'"{text}"', text


def _list(topic: dict[str, Any], n: int) -> str:
    return "\n".join(f"{i}. {item.capitalize()}" for i, item in enumerate(topic["items"][:n], 1))


def _without(long: str, word: str, short: str) -> str:
    """The long reply without the sentences that have the word."""
    kept = [s for s in long.replace(". ", ".\n").split("\n") if word not in s.lower()]
    return " ".join(kept) or short
