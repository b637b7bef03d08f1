"""A stage whose engine is disturbed while it generates, and what must be true of it afterwards."""

from __future__ import annotations

from selfreward.steps.generation import Generation


class Disturbed:
    """An engine, and a hand that does something after each group: `after(1)` when the first has come."""

    def __init__(self, engine, after):
        self.name, self._engine, self._after = engine.name, engine, after

    def generate(self, requests, done):
        for count, group in enumerate(self._engine.generate(requests, done), 1):
            yield group
            self._after(count)


def finish(engine, folder, requests, journalled):
    """The same stage again, undisturbed: all is there, and what was journalled before was not asked for again."""
    with Generation("test", folder, engine) as again:
        completions = again.complete(requests, "answers")
    assert again.notes().resumed == len(journalled)
    assert {key: completions[key] for key in journalled} == journalled
    assert sorted(completions) == asked_for(requests)
    assert {one.error for one in completions.values()} == {None}


def asked_for(requests):
    return sorted((one.id, sample) for one in requests for sample in range(one.n))
