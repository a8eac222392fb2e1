"""A pretraining as one Ray Train run: what its workers do, and how the caller follows them."""

from __future__ import annotations

import logging
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.platform.cluster import Cluster, stand_at
from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError, RunError
from penchant.platform.language_models import Head, load_model, load_tokenizer
from penchant.platform.progress import Progress
from penchant.platform.store import write_json
from penchant.platform.trackers import start_trackers
from penchant.platform.tracking import Trackers, track_at
from penchant.platform.tracking_settings import TrackerName
from penchant.trainers.checkpoints import (
    KEPT,
    drop_torn_list,
    last_checkpoint,
    seal,
    sound_and_torn,
)
from penchant.trainers.course import Group
from penchant.trainers.ledger import Ledger
from penchant.trainers.memory_trouble import keep_plan, out_of_memory, ran_out
from penchant.trainers.pretrain.corpus import Corpus
from penchant.trainers.pretrain.plan import PretrainSettings
from penchant.trainers.pretrain.training import Pretrained, Stand, pretrain_model
from penchant.trainers.refusal import forget_refusal, read_refusal, refusing
from penchant.trainers.step_log import StepLog
from penchant.trainers.worker_group import worker_group

__all__ = [
    "CORPUS_FILE",
    "MODEL",
    "RESULT_FILE",
    "TRACKING",
    "UNFINISHED",
    "keep_model",
    "train_on_ray",
]

UNFINISHED = ".unfinished"  # the name of the directory to work in ends so
CORPUS_FILE, RESULT_FILE, MODEL = "corpus.safetensors", "result.json", "model"
TRACKING = "tracking"
_LEDGER, _TRAIN, _RUN = "steps.jsonl", "train", "pretrain"
_DIALS = (
    "set resources.memory (zero2 or zero3 with more resources.workers, offload on a GPU), or lower "
    "--batch-sequences, --tokens or --layers"
)
_LOOK_S = 0.5  # between two looks at the ledger


def train_on_ray(
    work: Path,
    settings: PretrainSettings,
    experiment: Experiment,
    cluster: Cluster,
    progress: Progress,
) -> None:
    """Train on the Ray that is connected; the model and `result.json` then stand in `work`.

    Args:
        experiment: says on what to train, and whom to tell.

    Raises:
        ConfigError: more workers are asked for than a private Ray has CPUs, or the model does not
            fit the memory.
        RunError: the training failed; its last checkpoint is kept.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    resources = experiment.resources
    if cluster.private and resources.workers > cluster.cpus:
        raise ConfigError(
            f"resources.workers is {resources.workers}, but this machine has {cluster.cpus} CPUs; "
            "expected a CPU for each. Lower it."
        )
    forget_refusal(work)
    place = work.resolve() / _TRAIN / _RUN
    drop_torn_list(place)
    if torn := sound_and_torn(place)[1]:
        progress.say(f"pretrain: {len(torn)} of its checkpoints are not whole, and are passed over")
    task = {
        "work": str(work.resolve()),
        "directory": str(Path.cwd()),
        "settings": settings.model_dump(mode="json"),
        "memory": resources.memory,
        "tracking": {"to": experiment.tracking.to, "project": experiment.name},
    }
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # failures are told below
    scaling, torch_config = worker_group(
        resources.workers, max(cluster.cpus // resources.workers, 1), cluster.gpus
    )
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=task,
        torch_config=torch_config,
        scaling_config=scaling,
        run_config=RunConfig(
            name=_RUN,  # the same name goes on where it was cut
            storage_path=str(work.resolve() / _TRAIN),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
            failure_config=FailureConfig(max_failures=2),
        ),
    )
    with _followed(work, progress), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Ray's own settings, by Ray
        try:
            error: BaseException | None = trainer.fit().error
        except Exception as failure:  # whatever Ray raises is told in our words
            error = failure
    if (refused := read_refusal(work)) is not None:
        raise refused
    if error is not None and ran_out(error):
        raise out_of_memory(error, work, _DIALS) from error
    if error is not None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RunError(
            f"pretrain: the workers failed: {(lines or [type(error).__name__])[-1].rstrip('.')}. "
            "The last checkpoint is kept: mend the cause and run the same command to go on."
        ) from error


def train_worker(task: dict[str, Any]) -> None:
    """What each Ray Train worker runs.

    Args:
        task: `work` (a directory that all workers see), `directory` (where relative paths begin),
            `settings`, the dial `memory`, and `tracking`: `to` whom, in which `project`.
    """
    import ray.train

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    stand_at(task["directory"])
    context = ray.train.get_context()
    group = Group(rank=context.get_world_rank(), workers=context.get_world_size())
    work, settings = Path(task["work"]), PretrainSettings.model_validate(task["settings"])
    ledger = Ledger(work / _LEDGER)

    def report(stand: Stand, checkpoint: Path | None) -> None:
        if group.rank == 0:
            ledger.append(vars(stand))
        kept = None
        if checkpoint is not None:
            seal(checkpoint)
            kept = ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report(vars(stand), checkpoint=kept)

    def tell(memory: str) -> None:
        if group.rank == 0:
            keep_plan(work, memory)

    def train() -> None:
        corpus = Corpus.load(work / CORPUS_FILE)
        log = _step_log(group, work, settings, **task["tracking"])
        resume, _ = last_checkpoint(work / _TRAIN / _RUN)
        with log or nullcontext():
            found = pretrain_model(
                settings, corpus, group, report, resume, task["memory"], tell, log
            )
        if found is not None:
            facts = {**found.facts, "untracked": {} if log is None else log.lost}
            keep_model(replace(found, facts=facts), settings, work)

    refusing(train, work, group, _DIALS)


def _step_log(
    group: Group, work: Path, settings: PretrainSettings, *, to: Sequence[TrackerName], project: str
) -> StepLog | None:
    """What tells the experiment's trackers of this training; None where there are none."""
    name = work.name.removesuffix(UNFINISHED)

    def start(step: int) -> Trackers:
        root, facts = work.resolve() / TRACKING, settings.model_dump(mode="json")
        tracked = track_at(root, root / name, name, project=project, step=step, facts=facts)
        return start_trackers(to, tracked)

    return StepLog(group, start) if to else None


def keep_model(found: Pretrained, settings: PretrainSettings, work: Path) -> None:
    """Write the Hugging Face directory, then `result.json`."""
    shutil.rmtree(work / MODEL, ignore_errors=True)
    head: Head = "masked" if settings.masked else "causal"
    model: Any = load_model(settings.base, head=head, layers=settings.layers)
    model.load_state_dict(found.weights)
    model.save_pretrained(work / MODEL)
    load_tokenizer(settings.base).save_pretrained(work / MODEL)
    write_json(work / RESULT_FILE, found.facts)


@contextmanager
def _followed(work: Path, progress: Progress) -> Iterator[None]:
    """Tell what the ledger says while the body runs."""
    ledger, done = Ledger(work / _LEDGER), threading.Event()
    told = len(ledger.read())

    def follow() -> None:
        nonlocal told
        start: int | None = None  # the step that this run began with
        while True:
            last = done.is_set()
            for line in ledger.read()[told:]:
                told += 1
                if start is None:  # time is counted from the first step on
                    start = line["step"]
                    progress.expect("pretraining", {"pretrain": line["steps"] - start})
                progress.step("pretrain", line["step"] - start, _note(line))
            if last:
                return
            done.wait(_LOOK_S)

    thread = threading.Thread(target=follow, name="pretrain-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _note(line: dict[str, Any]) -> str:
    where = f"step {line['step']}/{line['steps']}"
    return f"{where}, loss {line['loss']:.3f}, {line['tokens_per_s']:,.0f} tokens/s"
