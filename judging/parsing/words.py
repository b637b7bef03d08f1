"""The vocabulary of score statements: patterns over a short window of lower-case text, marks already blank.

Used by `selfreward.judging.parsing.statements` only, on windows of a few hundred characters in which `PLAIN` has turned
quotation marks, Markdown, brackets and TeX signs into blanks, full-width signs into ASCII and all dashes into `-`.
"""

from __future__ import annotations

import re

SCORE_WORDS = (
    "score", "ｓｃｏｒｅ", "Ｓｃｏｒｅ",
    "评分", "評分", "得分", "分数", "总分", "スコア", "점수", "평점", "총점", "оценка", "Оценка", "puntuación", "punktzahl",
    "[result]",
)  # fmt: skip
"""Words for a score, ASCII letters in lower case: English, and languages that judges slip into."""

WEAK_WORDS = ("rating", "total", "points:", "grade:")
"""Words that also name other things: they count at the start of a line, or if the judge gives the figure."""

PART_WORDS = ("points:", "grade:")
"""Those of them that rubrics use for parts, too."""

TOTAL_WORDS = ("总分", "총점")

PLAIN = str.maketrans(
    dict.fromkeys('*_`~"“”‘«»„「」$\\[]{}<>#\t\r\x0c\x0b\u3000［］｛｝＜＞《》【】', " ")
    | dict(zip("：．，／＝（）＋％→’−–—－＊｜", ":.,/=()+%:'---- |", strict=True))
)
# Apostrophes inside words stay: the patterns below need `I'd` and `n't`.
LONE_APOSTROPHE = re.compile(r"'(?![a-z])|(?<![a-z])'")
CLAUSE_END = re.compile(r"[,;:.!?](?:\s|$)| - ")

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
FRACTIONS = {"½": 0.5, "¼": 0.25, "¾": 0.75}

# `4,5` is a decimal; the comma of `1,000` is not one.
_NUMBER = rf"(?:\d+(?:\.\d+|,\d\d?(?!\d))?[½¼¾]?|\.\d+|[½¼¾]|(?:{'|'.join(NUMBER_WORDS)})(?![\w-]))"
_NAME = r"(?: *+\([^()\n]{0,40}\))?"
ANY_DIGIT = re.compile(r"[\d½¼¾]")
# Words between label and figure: "score for this response is", "I give it a solid 4".
_FILLER = (
    r"(?:(?:out of \d+|\d+-point|0 ?(?:-|to) ?\d+|i(?:'d|'ll|'m)?|we(?:'d|'ll)?|would|will|be|the|this|that|my|your|"
    r"to|for|on|response|answer|reply|user(?:'s)?|question|instruction|it|gets?|deserves?|receives?|earns?|earned|"
    r"give|given|giving|rate|assign|assigned|award|awarded|an?|of|is|total|points?|final|overall|score|rating|about|"
    r"approximately|around|roughly|only|just|exactly|solid|strong|out|with|based|scale|from|additive|therefore|"
    r"thus|so)\b *+)"
)
# Possessive quantifiers (`*+`, `{0,8}+`) here and below keep hostile runs of blanks from backtracking.
LABELLED = re.compile(
    rf" *+(?:\([^()\n]{{0,40}}\) *+)?{_FILLER}{{0,8}}"
    r"(?P<separator>[:=|]|-+(?= )|(?<! )-(?=\d)|\b(?:is|was|equals|of|to|comes to|(?:should|would) be)\b|[为是は는은])"
    r" *+[:=|(]*+(?P<gap>\s*+)"
    r"(?:/(?:b|i|u|em|strong|span) +)?(?:[-•] +)?[ (~|]*+(?:(?:boxed|text|score|total points?|b|strong) +){0,4}+"
    rf"{_FILLER}{{0,8}}+[:=]?[ (~]*+"
    rf"(?P<sign>[-+](?=[\d.]))?(?P<number>{_NUMBER})"
)
# `Score 4/5`, `<score>4</score>`: no separator is left between label and figure.
BESIDE = re.compile(rf"(?P<separator>)(?P<gap>\s*+)\(? *+(?P<sign>[-+](?=[\d.]))?(?P<number>{_NUMBER})")
STARTED = re.compile(
    rf" *+(?:\([^()\n]{{0,40}}\) *+)?{_FILLER}{{0,8}}(?:[:=|]|\b(?:is|of)\b)[\s(|]*+{_FILLER}{{0,4}}+\s*+$"
)

SUM = re.compile(rf"(?:{_NAME} *+[-+] *+{_NUMBER}){{1,12}}{_NAME}[ )]*+= *+(?P<number>{_NUMBER})")
RANGE = re.compile(rf"[ )]*+(?:[-~]|\.\.+|(?:to|or|and|bis)\b)[ (]*+{_NUMBER}| +\d")
MALFORMED = re.compile(r"[.,:]\d| *+\+| *+, *+\d+(?:\.\d+)? *+(?:,|and\b|\n|$)")
HALF = re.compile(r" +and +a +half\b")
UNIT = re.compile(r"[ )-]*+(?:(?:points?|pts?|stars?|marks?|punkte?|балл\w*)\b|分|점|点)")
OVER = re.compile(
    r"[ ),]*+\(? *+(?:/|(?:out of|of|over|von|из|de|on a scale (?:of|from) \d+ ?(?:to|-))\b|"
    r"on a scale (?:of|from) \d+ ?-) *+(?:an? )?(?:possible |total |maximum |max )?(?:of )?"
    rf"(?P<over>{_NUMBER})(?P<more> *+/ *+\d)?"
)
# The scale that a label names: `Score (0-5):`, `Score out of 10:`.
SCALE = re.compile(r"(?:out of|/|-|\bto) ?(?P<number>\d+)\b|\b(?P<points>\d+)-point")
PERCENT = re.compile(r" *+(?:%|percent\b)")
CLOSED = re.compile(r"[ )]*+(?:$|[\n.,;!:(|-]|/ ?[a-z])")
# `Score 4: mostly right` describes a scale.
SCALE_ENTRY = re.compile(r" *+:")
AFTER_OVER = re.compile(rf"{CLOSED.pattern}| *+(?:points?|stars?|overall|in total|because|since|for|as)\b")
SUMMED_UP = re.compile(r"\bfor a (?:grand |final )?$")
LIST_ITEM = re.compile(r"[.)] +\w")
LATER_PART = re.compile(
    r" *+\([^()\n]*\)(?: *+[,;+&]| and) *+\d| *+for\b[^\n]*?(?:\d|\bone|\ban?other) +(?:points? +)?(?:for|more)\b"
)

_OF_TOTAL = r"[ -]*(?:(?:total|overall|points?) *+)?$"
# Other figures that are called scores: neither a verdict nor evidence against one.
LIMIT = re.compile(
    r"(?:\b(?:max(?:imum)?|min(?:imum)?|highest|lowest|perfect|full|possible|passing|top|best|average|mean|credit|test|"
    rf"confidence|certainty|initial|previous|earlier|preliminary|interim|partial|current|running|out of an?)|\b(?:z|f1|t)){_OF_TOTAL}"
)
PART = re.compile(
    r"(?:\b(?:relevance|relevancy|clarity|accuracy|completeness|coverage|helpfulness|usefulness|conciseness|depth|tone|"
    r"style|organi[sz]ation|structure|insight|insightfulness|engagement|substance|correctness|factuality|"
    rf"criteri\w+)|\bsub){_OF_TOTAL}"
)
TOTAL = re.compile(
    r"(?:\b(?:total|overall|final|grand|sum|revised|updated|adjusted|corrected)\W*|总|最终|최종 ?|총 ?)$"
)
# Up to three words and no sentence: `Empathy score: 1` is the score of a part.
NAMED = re.compile(r"\W*(?!an? )(?:[a-z][a-z']*+[ &/-]+){1,3}$")
SENTENCE_END = re.compile(r"[.!?;]\s")
NAME_BEHIND = re.compile(r" *+\(([a-z][a-z &-]*)\)")
"""`Score (tone): 1`, `Score (overall): 3`."""
AFTER_SENTENCE = re.compile(r"[.!?:;|。！？\d]\W*$")
LISTED = re.compile(r"\d *+[,;/&]? *+$")
# Who moves a score *to* a figure: "I lower the score to 4"; "adding sources brings it to 5" does not.
REVISED = re.compile(r"\b(?:i|we|this|that|which|these|it)\b")
# After `[[`: `4]]`, also `Rating: 4]]` and `Rating]]: 4`; not a Markdown link.
BRACKETED = re.compile(
    rf"\s*+(?:(?:rating|score|점수|평점)(?P<closed>\]\])?\s*+:\s*+\[?)?(?P<number>{_NUMBER})(?: *+/ *+(?P<over>\d+))?"
    r"(?(closed)(?![\d.,]*\d)|\s*+\]\](?!\())"
)
# `score` ends a longer word (`underscore`), unless in camel case (`finalScore`).
JOINED = re.compile(r"(?<!\bfinal)(?<!\btotal)(?<!\boverall)(?<=[a-z0-9])$")
LABEL_LINE = re.compile(
    r"\W*(?:\d+[.)] +)?(?:(?:the|my|final|grand|overall|sum|so|thus|therefore|hence|and|star|total|最终|总|최종|총)\W*)*$"
)
MARKS_ONLY = re.compile(r"\W*+(?:(?:boxed|text)\b\W*+)*+$")
BOXED_LINE = re.compile(
    rf"(?:^|\n)[$\\(\[\s*]*boxed\{{\s*(?:\\text\{{)?(?P<number>{_NUMBER})\}}[}}$\\)\]\s.*]*$"
)
LAST_FIGURE = re.compile(rf"(?<![\w./,-])(?P<number>{_NUMBER}) *+(?:points? *+)?\(?$")

_DETERMINERS = (
    r"an?|the|my|its|this|it|quite|really|enough|for|to|of|with|give|get|got|earn|deserve|merit|warrant|reach|rate|"
    r"assign|award|justify|be|worth|response|answer|reply|full|final|total|overall|perfect|higher|at|as|that|own|on|"
    r"deserves?|me|you|us|judge|grader|itself|explicit|claiming"
)
RULED_OUT = re.compile(
    r"(?:(?:\b(?:not|never|cannot|without|than|short of|unless|if|whether|when)|n't)\b"
    rf"(?:[ ,]+(?:{_DETERMINERS})\b)*[ ,(]*|"
    rf"\b(?:instead of|example|e\.g\.|such as)\b(?:[ ,:]+(?:{_DETERMINERS})\b)*[ :,(]*)$"
)
MIGHT_CHANGE = re.compile(r"\b(?:would|could|might|may|can|will|should|by|not)\b")
# `.{5}` is the modal itself (would, could, might), since a lookbehind in Python has a fixed width.
WEIGHED = re.compile(
    r"\b(?:would|could|might)(?: also| still)? (?:have|need|require)\b|\bneeds? (?:to|more)\b|\bbetween\b|"
    r"\bto (?:get|reach|earn|receive|achieve|deserve|merit|attain|warrant)\b|\b(?:away|keeps? it|kept it) from\b|"
    r"\b(?:if|unless|whether)\b|\benough (?:for|to)\b|\bshort of\b|\bfrom (?:\w+ing|an?)\b|"
    r"\btoo \w+ (?:for|to)\b|^\W*(?:with (?:more|an?|some|better)|adding)\b|"
    r"\b(?:would|could|might)\b(?<!\bi .{5})(?<!\bwe .{5})(?<!response .{5})(?<!answer .{5})(?<!reply .{5})(?<!\bit .{5})"
    r"(?<!\bthis .{5})(?: then)? "
    r"(?:earn|merit|warrant|deserve|get|receive|bring|lift|raise|push|make|give)\b"
)
RULED_OUT_AFTER = re.compile(
    r"[ ),]*(?:(?:would|could|might|may|should|is|was|seems|feels)(?:n't| not| never)? (?:be |have been |also )?"
    r"(?:too|not|over\w*|un\w+|excessive|generous|reserved|only|need|require|if|when|wrong|inflated|harsh|"
    r"(?:given|awarded) (?:if|when|to|only|for)|"
    r"mean|have|far|out of the question|the max\w*|for (?:responses|answers))\b|"
    r"(?:would|could|should|is|was)(?:n't| not)\b|"
    r"(?:requires?|needs?|means?|indicates?|represents?|corresponds?|denotes?)\b|(?:only )?if\b|when\b|unless\b|"
    r"for (?:responses|answers|replies|a response|an answer|a reply) (?:that|which|with|if)\b|"
    r"or (?:above|more|higher|better|less|lower|below|over|up)\b)"
)
# "in other words" and "following the instruction" are the judge's own phrases.
ASCRIBED = re.compile(
    r"\b(?:says?|said|states?|stated|claim(?:s|ed|ing)?|contain(?:s|ed|ing)?|includ(?:es|ed|ing)|writes?|wrote|reads?|"
    r"ask(?:s|ed|ing)|tell(?:s|ing)|told|demand(?:s|ed|ing)|insert(?:s|ed|ing)|append(?:s|ed|ing)|mention(?:s|ed|ing)|"
    r"request(?:s|ed|ing)|suggests?|insist(?:s|ed|ing)|(?:ends|ended|ending|begins|starts|opens) with|"
    r"quot(?:es|ed|ing)|output|print|return|say|(?:respond|answer|reply) with|text|phrase|string|line|(?<!other )words|sentence|"
    r"(?<!following the )instruction|itself|themselves|self-\w+|own)"
    rf"(?:[ ,:]+(?:{_DETERMINERS})\b)*[ :,(]*$"
)
ANNOUNCED = re.compile(
    r"\b(?:i|we)(?:'(?:d|ll)| would| will| must| can| therefore| thus| hereby| still)*"
    r" (?:give|rate|assign|award|conclude|settle|end|grade|finish|say)\b|\bconclu\w+|"
    r"\bmy (?:final |total |overall )?(?:score|rating|verdict|grade|conclusion)\b|"
    r"^\W*(?:therefore|thus|hence|so|overall|final(?: \w+)?|verdict|total)[ ,:]*$|"
    r"(?:다음과 같이|다음과 같습니다|평가하면|평가는|점수는)[ ,:]*$|\b(?:is|be) (?:rated|graded|scored) as follows[ :]*$"
)
OWN_VERDICT = re.compile(
    r"(?:\b(?:i|we)(?:'d|'ll|'m| would| will| am| therefore| thus| must| can)* (?:\w+ly )?"
    r"(?:give|giving|rate|rating|assign|award|score|grade)\b[^.!?;]{0,40}|"
    r"(?:^|[.!?] )\W{0,8}(?:(?:my|the) )?(?:final )?"
    r"(?:overall|final(?: result)?|verdict|evaluation|assessment|judge?ment|conclusion|grade|mark)\W{0,8}:\W{0,8}|"
    r"\b(?:this|the) (?:response|answer|reply) (?:deserves|earns|merits|receives|gets|is worth)\b[^.!?;]{0,20})$"
)
