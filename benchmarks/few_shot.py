"""TALLRec's few-shot setting on MovieLens-100K: who likes a movie, learned from n samples alone.

    python benchmarks/few_shot.py            # 5 draws a size, and all of the train part
    python benchmarks/few_shot.py --quick    # 2 draws of 16 and 64
    python benchmarks/few_shot.py --text     # fine-tunes MiniLM too (`users`), an hour more
    python benchmarks/few_shot.py --text --draws 2   # fewer draws, wider intervals

Protocol of Bao et al. 2023 (TALLRec, RecSys): a sample is a rating with the user's 10 ratings
before it, the question is whether it is above 3, samples are split 8:1:1, and n of the train part
are drawn. Two splits are measured:

- `users`, what their released `preprocess_movie.py` does: users in the order of their first row in
  the file, the last 10,000 samples. Parts hold other users, and test may be earlier than train.
  The published figures (the tuned LLaMA-7B) are of this one.
- `time`: all samples in the order of time, as the paper's words suggest.

A member learns from a log of the n samples and nothing else: each is a pseudo-user of 11 events,
and a rating is a like or none, as in TALLRec's prompt. Only the last event is an answer to learn
from; what is known of items (all that `popularity` and `personal` know) is read from all 11. Test
samples are other pseudo-users, read when they are scored. Rows that know more say so: `stars` keeps
the histories' stars, `11 asked` takes the history's ratings as answers too, and `ratings` has each
rating of the train part once, with stars, under its real user.

Not as in TALLRec: no validation sample is read (they stop on the AUC of 1,000), genres are read
beside titles and years, and when a rating was made is read too. Intervals are t-intervals over the
draws; the test samples are the same in all. AUC in percent, of all pairs of samples and `within`
users, where knowing who likes much is worth nothing. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from shared.facts import facts

from penchant.platform import config
from penchant.platform.binary import auc
from penchant.platform.events import EventLog, read_user_ids
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.recipes import BoostedRecipe, PersonalRecipe, PopularityRecipe, TextRecipe
from penchant.platform.requests import Requests
from penchant.platform.schema import USER
from penchant.platform.sources import resolve
from penchant.platform.store import RunDirectory
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import Window
from penchant.platform.within import auc_within
from penchant.trainers.boosted.answers import fit_answers
from penchant.trainers.boosted.model import fit_boosted
from penchant.trainers.counting.personal import fit_personal
from penchant.trainers.counting.popularity import fit_popularity
from penchant.trainers.member import Member, Past

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "likes.yaml"
PUBLISHED = {16: 67.24, 64: 67.48, 256: 71.98}
HISTORY, ABOVE = 10, 3.0
NO, YES = 3.0, 4.0  # a like or none, as stars
RELEASED_SAMPLES = 10_000
SPEC = config.Requests(task="binary", positive_above=ABOVE, metric="auc")
BY_LABEL = config.Requests(task="binary", metric="auc")
TEN = Window(events=HISTORY)
BOOSTED = BoostedRecipe(
    kind="boosted", window=TEN, fit_requests=70_000, learning_rate=0.03, leaves=31, trees=100
)
TEXT = TextRecipe(
    kind="text",
    layers=3,
    window=TEN,
    history=HistoryText(max_tokens=192, gaps=False, values=True),
    epochs=20,
    patience=20,
    batch_requests=16,
)
Rows = NDArray[np.int64]
Fitted = Iterator[tuple[str, Member, str]]  # name, member, test samples as it reads them


@dataclass(frozen=True, kw_only=True)
class Split:
    """Samples as log rows of their answers; the 10 rows before each are its history."""

    name: str
    train: Rows
    test: Rows


def splits(prepared: Prepared) -> Iterator[Split]:
    log = prepared.log
    samples = np.flatnonzero(np.arange(log.num_events) - log.offsets[log.user] >= HISTORY)
    file = resolve(prepared.experiment.data).events[0].frame.select(USER).collect()[USER]
    place = {str(user): at for at, user in enumerate(file.unique(maintain_order=True))}
    of_user = np.array([place[user] for user in read_user_ids(prepared.run.log)])[log.user]
    by_user = samples[np.argsort(of_user[samples], kind="stable")][-RELEASED_SAMPLES:]
    by_time = samples[np.argsort(log.time_ms[samples], kind="stable")]
    for name, ordered in (("users", by_user), ("time", by_time)):
        size = len(ordered)
        yield Split(name=name, train=ordered[: int(size * 0.8)], test=ordered[int(size * 0.9) :])


def events_of(samples: Rows) -> Rows:
    """Log rows of the samples, their histories before their answers."""
    return (np.sort(samples)[:, None] + np.arange(-HISTORY, 1)).ravel()


def rows_of(log: EventLog, rows: Rows, offsets: Rows) -> EventLog:
    """A log of these rows alone, under other users."""
    columns = {name: getattr(log, name)[rows] for name in ("item", "time_ms", "kind", "value")}
    return EventLog(**columns, group=None, offsets=offsets, num_items=log.num_items)


def pseudo_users(log: EventLog, samples: Rows, *, stars: bool) -> EventLog:
    """A log that holds these samples alone, each as a user of its own, in the log's order.

    Answers are a like or none, and so are histories unless they keep their `stars`. An answer comes
    a millisecond later (times are seconds), so that no history stands at its own time.
    """
    offsets = np.arange(len(samples) + 1, dtype=np.int64) * (HISTORY + 1)
    found = rows_of(log, events_of(samples), offsets)
    answer = np.arange(found.num_events) % (HISTORY + 1) == HISTORY
    likes = np.where(found.value > ABOVE, YES, NO).astype(np.float32)
    value = np.where(answer, likes, found.value) if stars else likes
    return replace(found, time_ms=found.time_ms + answer, value=value)


def liked(log: EventLog, rows: Rows) -> NDArray[np.float32]:
    return (log.value[rows] > ABOVE).astype(np.float32)


def asked(log: EventLog, rows: Rows) -> Requests:
    """A yes-or-no request for each of these rows; its history ends before the row."""
    return Requests(
        row=rows,
        user=log.user[rows],
        time_ms=log.time_ms[rows],
        end=rows,
        target_offsets=np.zeros(len(rows) + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=log.item[rows],
        label=liked(log, rows),
    )


def past_of(prepared: Prepared, log: EventLog, spec: config.Requests = SPEC) -> Past:
    """All of a log, to learn from."""
    texts, types = prepared.catalog.item_texts, prepared.types
    until_ms = int(log.time_ms.max()) + 1
    return Past(log=log, spec=spec, until_ms=until_ms, texts=texts, types=types)


def answered(past: Past, rows: Rows, window: Window = TEN) -> Member:
    """`boosted` with these rows as its only answers; items' records come from the whole log."""
    recipe = BOOSTED.model_copy(update={"window": window})
    return fit_answers(recipe, past, asked(past.log, rows), liked(past.log, rows))


def few_shot(prepared: Prepared, samples: Rows, *, text: bool) -> Fitted:
    """Members that know these samples and nothing else."""
    likes = past_of(prepared, pseudo_users(prepared.log, samples, stars=False))
    stars = past_of(prepared, pseudo_users(prepared.log, samples, stars=True))
    answers = likes.log.offsets[1:] - 1
    yield "popularity", fit_popularity(PopularityRecipe(kind="popularity"), likes), "likes"
    yield "personal", fit_personal(PersonalRecipe(kind="personal", window=TEN), likes), "likes"
    yield "boosted", answered(likes, answers), "likes"
    yield "boosted, stars", answered(stars, answers), "stars"
    yield "boosted, 11 asked", fit_boosted(BOOSTED, likes), "likes"
    if text:
        yield "text, stars", tuned(prepared, stars.log, answers), "stars"


def informed(prepared: Prepared, samples: Rows) -> Fitted:
    """`boosted` with each rating of the train part once, under its real user."""
    kept = np.unique(events_of(samples))
    train = rows_of(prepared.log, kept, np.searchsorted(kept, prepared.log.offsets))
    past, rows = past_of(prepared, train), np.searchsorted(kept, np.sort(samples))
    yield "boosted, ratings", answered(past, rows), "real users"
    yield "boosted, ratings, no window", answered(past, rows, Window()), "real users"


def tuned(prepared: Prepared, log: EventLog, answers: Rows) -> Member:
    """`text` in a group of one worker; the loss on the samples themselves picks the epoch."""
    import torch.distributed  # seconds of imports that the other members do without

    from penchant.trainers.course import Group
    from penchant.trainers.text.training import train_text
    from penchant.trainers.zero.stages import Sharding

    if not torch.distributed.is_initialized():
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "DS_ACCELERATOR": "cpu"}
        meeting = f"file://{prepared.run.root.resolve()}/meeting"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    requests, label = asked(log, answers), np.full(log.num_events, np.nan, dtype=np.float32)
    label[answers] = liked(log, answers)
    past, alone = past_of(prepared, replace(log, label=label), BY_LABEL), Group(rank=0, workers=1)
    found, _ = train_text(TEXT, past, requests, alone, lambda *_: None, sharding=Sharding(stage=0))
    return cast(Member, found)  # the first worker has it


def measure(
    prepared: Prepared, split: Split, quick: bool, draws: int, text: bool
) -> list[dict[str, Any]]:
    """A row for each size and member."""
    log, test = prepared.log, np.sort(split.test)
    likes, stars = (pseudo_users(log, test, stars=kept) for kept in (False, True))
    answers = likes.offsets[1:] - 1
    tests = {"likes": (likes, asked(likes, answers)), "stars": (stars, asked(stars, answers))}
    tests["real users"] = log, asked(log, test)
    label = liked(log, test)

    def both(scores: NDArray[np.float32]) -> list[float]:
        return [100 * auc(scores, label), 100 * auc_within(scores, label, log.user[test])]

    def judged(members: Fitted) -> dict[str, list[float]]:
        return {name: both(member.score(*tests[form])[:, 0]) for name, member, form in members}

    share = likes.value.reshape(len(test), -1)[:, :HISTORY].mean(axis=1)
    rows = [row_of(split, 0, "likes in the history", [both(share)])]
    for size in (16, 64) if quick else tuple(PUBLISHED):
        found = []
        for seed in range(draws):
            samples = np.random.default_rng(seed).choice(split.train, size, replace=False)
            found.append(judged(few_shot(prepared, samples, text=text and split.name == "users")))
        rows += [row_of(split, size, name, [one[name] for one in found]) for name in found[0]]
    if not quick:
        whole = few_shot(prepared, split.train, text=False), informed(prepared, split.train)
        scores = judged(chain(*whole))
        rows += [row_of(split, len(split.train), name, [one]) for name, one in scores.items()]
    return rows


def row_of(split: Split, size: int, name: str, found: list[list[float]]) -> dict[str, Any]:
    """A row of the table, also printed; one fit alone has no interval."""
    each, within = np.array(found).T
    published = PUBLISHED.get(size) if split.name == "users" else None
    row: dict[str, Any] = {"split": split.name, "samples": size, "member": name}
    row["auc"] = round(each.mean(), 2)
    interval = ""
    if len(each) > 1:
        half = float(stats.t.ppf(0.975, len(each) - 1) * stats.sem(each))
        row |= {"low": round(each.mean() - half, 2), "high": round(each.mean() + half, 2)}
        interval = f"[{each.mean() - half:.1f}, {each.mean() + half:.1f}]"
    print(
        f"{split.name:<7}{size:>7,}  {name:<28}{each.mean():>6.1f}  {interval:<15}"
        f"{within.mean():>7.1f}{published or '':>8}",
        flush=True,
    )
    row |= {"each": np.round(each, 2).tolist(), "within": round(within.mean(), 2)}
    return row | {"published": published}


def main() -> None:
    parser = argparse.ArgumentParser(description="TALLRec's few-shot setting on MovieLens-100K.")
    parser.add_argument("--quick", action="store_true", help="2 draws of 16 and 64 samples")
    parser.add_argument("--text", action="store_true", help="also fine-tune MiniLM, on `users`")
    parser.add_argument("--draws", type=int, help="of each size; by default 5, or 2 with --quick")
    options = parser.parse_args()
    draws = options.draws or (2 if options.quick else 5)
    rows, parts = [], {}
    with tempfile.TemporaryDirectory() as home:
        experiment = config.load_experiment(EXAMPLE, ())
        prepared = prepare(experiment, RunDirectory(Path(home) / "run"))
        head = f"{'split':<7}{'samples':>7}  {'member':<28}{'AUC':>6}  {'95% (draws)':<15}"
        print(f"{head}{'within':>7}{'7B':>8}")
        for split in splits(prepared):
            test_yes = float(liked(prepared.log, split.test).mean())
            users = len(np.unique(prepared.log.user[split.test]))
            sizes = {"train": len(split.train), "test": len(split.test), "test_users": users}
            parts[split.name] = sizes | {"test_yes": round(test_yes, 3)}
            rows += measure(prepared, split, options.quick, draws, options.text)
    summary = {
        "benchmark": "few_shot",
        "parts": parts,
        "rows": rows,
        "cpu_s": round(time.process_time()),
        **facts("numpy", "scikit-learn", "lightgbm"),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
