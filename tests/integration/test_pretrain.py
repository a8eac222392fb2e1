"""Pretraining over processes joined by gloo, and once as a Ray Train run, from file to directory.

This file is also the worker: `python test_pretrain.py TASK.json RANK WORKERS`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed
import transformers
from safetensors.torch import load_file

from penchant.ensembles.experiment import run_experiment
from penchant.platform.config import load_experiment
from penchant.platform.errors import ConfigError, RunError
from penchant.platform.language_models import load_tokenizer
from penchant.platform.progress import Progress
from penchant.platform.text import HistoryWriter, tokenizer_pieces
from penchant.platform.text_recipes import HistoryText, TextRecipe
from penchant.platform.tracking import STEPS_FILE, read_steps
from penchant.trainers.course import Group
from penchant.trainers.pretrain import training
from penchant.trainers.pretrain.corpus import Corpus, make_corpus
from penchant.trainers.pretrain.plan import Asker, PretrainSettings, drawn
from penchant.trainers.pretrain.run import pretrain
from penchant.trainers.pretrain.training import Stand, pretrain_model
from penchant.trainers.pretrain.worker import keep_model
from penchant.trainers.text.batches import frame_of
from penchant.trainers.zero.stages import Sharding
from penchant.trainers.zero.state import _holders

pytestmark = pytest.mark.slow

#: Sums in another order: a few float32 units, which Adam's division makes larger.
TOLERANCE = 2e-5
KINDS = ("red wine", "milk two", "brown bread", "white seven", "one milk", "three four")
STEPS, STOP = 60, 30


def ruin_weights(step: int) -> None:
    """This worker's part of the weights is no numbers after a step."""
    plain = training._step

    def ruining(ready: Any, at: int) -> Any:
        found = plain(ready, at)
        for held in _holders(ready.engine) if at + 1 == step else ():
            held.data.fill_(torch.nan)
        return found

    training._step = ruining


def work(task_path: str, rank: int, workers: int) -> None:
    """One worker of one run."""
    task = json.loads(Path(task_path).read_text())
    out = Path(task["out"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=workers
    )
    settings = PretrainSettings.model_validate(task["settings"])
    if task.get("ruined", {}).get("rank") == rank:
        ruin_weights(task["ruined"]["step"])

    def report(stand: Stand, checkpoint: Path | None) -> None:
        if checkpoint is not None and task["stop"] in (stand.step, None):
            shutil.copytree(checkpoint, out / "checkpoint", dirs_exist_ok=True)
            (out / "kept").write_text(str(stand.step))
        torch.distributed.barrier()
        if stand.step == task["stop"]:
            raise KeyboardInterrupt

    with _written_down(out / f"refused-{rank}"), contextlib.suppress(KeyboardInterrupt):
        found = pretrain_model(
            settings,
            Corpus.load(out.parent / "corpus.safetensors"),
            Group(rank=rank, workers=workers),
            report,
            None if task["resume"] is None else Path(task["resume"]),
            Sharding(stage=task["stage"]),
        )
        if found is not None:
            keep_model(found, settings, out)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _written_down(place: Path) -> Iterator[None]:
    """What a training refuses to go on for stands in a file."""
    try:
        yield
    except RunError as error:
        place.write_text(str(error))


def _finished(command: list[str]) -> Any:
    return subprocess.run(
        command,
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


class Trainings:
    """Runs pretrainings of one base on one corpus in processes of their own."""

    def __init__(self, root: Path, base: Path, corpus: Corpus, *, masked: bool) -> None:
        self.root = root
        self.settings = PretrainSettings(
            base=str(base),
            masked=masked,
            tokens=32,
            batch_sequences=7,  # no even share for two workers
            steps=STEPS,
            learning_rate=5e-3 if masked else 1e-2,  # an untrained head learns ten times faster
        )
        corpus.save(root / "corpus.safetensors")
        self.alone = self.run("alone", workers=1)

    def run(
        self, name: str, *, workers: int, stage: int = 0, stop: int = -1, resume: str | None = None
    ) -> dict[str, Any]:
        """What stands in `result.json`; nothing where the run was stopped."""
        place = None if resume is None else str(self.root / resume / "checkpoint")
        task = {"settings": self.settings, "stage": stage, "stop": stop, "resume": place}
        out = self._work(name, workers, task)
        return {} if stop >= 0 else json.loads((out / "result.json").read_text())

    def diverged(
        self, name: str, *, workers: int, stage: int, ruined: int = 0, **changed: Any
    ) -> tuple[Path, str]:
        """Directory of a run that is refused, with its last checkpoint, and what is said of it.

        Args:
            ruined: the step after which the last worker's weights are no numbers.
        """
        settings = self.settings.model_copy(update=changed)
        task = {"settings": settings, "stage": stage, "stop": None, "resume": None}
        task["ruined"] = {"step": ruined, "rank": workers - 1}
        out = self._work(name, workers, task)
        (said,) = {(out / f"refused-{rank}").read_text() for rank in range(workers)}
        return out, said

    def _work(self, name: str, workers: int, task: dict[str, Any]) -> Path:
        """Let so many processes do a task; their directory."""
        out = self.root / name
        out.mkdir()
        task |= {"out": str(out), "settings": task["settings"].model_dump(mode="json")}
        (out / "task.json").write_text(json.dumps(task))
        commands = [
            [sys.executable, __file__, str(out / "task.json"), str(rank), str(workers)]
            for rank in range(workers)
        ]
        with ThreadPoolExecutor(workers) as pool:
            for process in pool.map(_finished, commands):
                assert process.returncode == 0, process.stdout[-3000:]
        return out


def _faithful_log(make_log: Callable[..., Any]) -> Any:
    """40 users who each buy the same item every day."""
    rows = [(user, day, user % len(KINDS)) for user in range(40) for day in range(30)]
    return make_log(rows, len(KINDS))


def _tiny_gpt(place: Path, tokenizer: Any) -> Path:
    """A GPT-2 drawn at random, with the tokenizer of the tiny BERT."""
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=2, n_head=2, **ends
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def trainings(make_log, tiny_base, tmp_path_factory):
    """Those of an encoder and of a decoder, with the run of one worker; made when asked for."""
    made: dict[str, Trainings] = {}
    tokenizer = load_tokenizer(str(tiny_base))
    settings = HistoryText(max_tokens=30, gaps=False)
    writer = HistoryWriter.make(settings, KINDS, ("buy",), tokenizer_pieces(tokenizer))
    corpus = make_corpus(
        _faithful_log(make_log),
        KINDS,
        writer,
        frame_of(tokenizer),
        tokens=32,
        until_ms=20,
        held_out_ms=30,
        seed=0,
    )

    def named(kind: str) -> Trainings:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            masked = kind == "encoder"
            base = tiny_base if masked else _tiny_gpt(root / "gpt", tokenizer)
            made[kind] = Trainings(root, base, corpus, masked=masked)
        return made[kind]

    return named


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_it_learns_more_than_frequencies(kind, trainings):
    found = trainings(kind).alone["perplexity"]
    assert found["after"] < 0.6 * found["frequencies"] < found["before_model"]


@pytest.mark.parametrize(("kind", "stage"), [("encoder", 3)])
def test_two_workers_at_any_stage_have_the_curve_of_one(kind, stage, trainings):
    here = trainings(kind)
    two = here.run(f"two-{stage}", workers=2, stage=stage)
    assert len(two["losses"]) == STEPS
    # a rate that teaches a tiny model this fast lets rounding grow in the steps after these
    early, alone = (np.array(run["losses"][:STOP]) for run in (two, here.alone))
    assert alone[-1] < alone[0] - 0.5  # curves that stand still would prove nothing
    np.testing.assert_allclose(early, alone, rtol=TOLERANCE, atol=1e-6)
    assert two["perplexity"] == pytest.approx(here.alone["perplexity"], rel=5e-3)
    assert (two["tokens"], two["parameters"]) == (here.alone["tokens"], here.alone["parameters"])


@pytest.mark.parametrize("kind", ["decoder"])
def test_a_run_that_was_cut_ends_like_one_that_was_not(kind, trainings):
    here = trainings(kind)
    here.run("cut", workers=1, stop=STOP)
    resumed = here.run("cut-on", workers=1, resume="cut")
    np.testing.assert_allclose(resumed["losses"], here.alone["losses"], rtol=1e-6, atol=0)
    assert resumed["perplexity"] == pytest.approx(here.alone["perplexity"], rel=1e-6)


def test_weights_that_one_worker_has_ruined_stop_all_and_are_not_kept(trainings):
    out, said = trainings("encoder").diverged("ruined", workers=2, stage=3, ruined=3, steps=6)
    assert "weights or moments are no numbers after step 3, expected a number" in said
    assert "The checkpoint after step 2 is kept." in said  # of 6 steps each is
    assert (out / "kept").read_text() == "2"
    state = load_file(out / "checkpoint" / "state.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_weights_that_are_numbers_but_answer_with_none_are_not_kept(trainings):
    # 1e19 squared is more than fp32 holds: norms of such states are no numbers
    out, said = trainings("encoder").diverged(
        "overflow", workers=1, stage=0, steps=1, learning_rate=1e19
    )
    assert "the loss is nan on held-out histories after step 1" in said
    assert "No step was kept." in said
    assert not (out / "checkpoint").exists()


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_plain_transformers_loads_it_with_the_perplexity_that_was_told(kind, trainings):
    here = trainings(kind)
    place = here.root / "alone" / "model"
    masked = here.settings.masked
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    model, facts = auto.from_pretrained(place, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    asker = Asker(transformers.AutoTokenizer.from_pretrained(place), masked=masked, tokens=32)
    held_out = Corpus.load(here.root / "corpus.safetensors").held_out
    asked = asker.ask(held_out, drawn(here.settings, "held out"))
    with torch.inference_mode():
        logits = model.eval()(input_ids=asked.ids, attention_mask=asked.mask).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), asked.wanted.flatten(), ignore_index=-1
    )
    assert float(loss.exp()) == pytest.approx(here.alone["perplexity"]["after"], rel=1e-4)


EXPERIMENT = """
name: faithful
data:
  events: {{paths: ['{folder}/events.csv'], columns: {{user: user, item: item, time: at}}}}
  items: {{paths: ['{folder}/items.csv'], columns: {{item: item, text: text}}}}
time: {{dates: {{select: 2024-01-20, blend: 2024-01-25, test: 2024-01-28}}}}
requests: {{per_block: 50}}
resources: {{workers: 2}}
members:
  - {{kind: text, base: '{out}', history: {{gaps: false}}, fit_requests: 60, epochs: 1}}
"""


class Killing(Progress):
    """Kills one of the workers once a few steps were told."""

    killed = 0

    def step(self, part: str, done: int, note: str) -> None:
        super().step(part, done, note)
        if done >= 40 and not self.killed:
            ours = psutil.Process().children(recursive=True)
            workers = [p for p in ours if "ray::RayTrainWorker" in " ".join(p.cmdline())]
            self.killed = len(workers)
            os.kill(workers[-1].pid, signal.SIGKILL)


@pytest.mark.integration
@pytest.mark.long
def test_from_an_experiment_file_to_a_base_though_a_worker_dies(tiny_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        f"u{user},i{user % len(KINDS)},{np.datetime64('2024-01-01') + day}"
        for user in range(40)
        for day in range(30)
    ]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,at", *lines, ""]))
    texts = [f"i{at},{text}" for at, text in enumerate(KINDS)]
    (tmp_path / "items.csv").write_text("\n".join(["item,text", *texts, ""]))
    out = Path("models", "faithful")  # relative, as in the documents
    (tmp_path / "faithful.yaml").write_text(EXPERIMENT.format(folder=tmp_path, out=out))
    experiment = load_experiment(tmp_path / "faithful.yaml")
    settings = PretrainSettings(
        base=str(tiny_base), tokens=32, batch_sequences=8, steps=400, learning_rate=1e-3
    )
    with Killing(quiet=True) as progress:
        report = pretrain(experiment, out, settings, progress)
    assert progress.killed == 2
    assert report["perplexity"]["after"] < 0.6 * report["perplexity"]["frequencies"]
    assert (report["steps"], len(report["losses"]), report["workers"]) == (400, 400, 2)
    assert report["data"]["until"] == "2024-01-20T00:00:00+00:00"
    assert [path.name for path in out.parent.iterdir()] == ["faithful"]
    assert "held-out tokens" in (out / "README.md").read_text()
    told = read_steps(out / "tracking" / "faithful" / STEPS_FILE)
    assert [line["step"] for line in told] == sorted({line["step"] for line in told})
    assert told[-1]["step"] == 400
    assert told[-1]["select_perplexity"] == pytest.approx(report["perplexity"]["after"])
    assert max(line["learning_rate"] for line in told) <= 1e-2  # of the untrained head
    assert all(line["tokens_per_s"] > 0 and 0 < line["peak_share"] < 1 for line in told)
    assert list((out / "tracking" / "tensorboard" / "faithful").iterdir())
    with Progress(quiet=True) as progress:
        again = pretrain(experiment, out, settings, progress)  # finished already
        assert again == report
        with pytest.raises(ConfigError, match=r"other settings: steps 400 \(now 500\)"):
            pretrain(experiment, out, settings.model_copy(update={"steps": 500}), progress)
    assert [path.name for path in out.parent.iterdir()] == ["faithful"]
    with Progress(quiet=True) as progress:
        found = run_experiment(experiment, tmp_path / "run", progress)
    assert len(found["members"]) == 1
    assert TextRecipe(kind="text", base=str(out)).label in found["members"][0]["id"]


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
