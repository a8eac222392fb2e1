"""Nothing is left on the CPU when a network is elsewhere: meta tensors stand in for a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from penchant.platform.item_tokens import TokenLists
from penchant.platform.language_models import load_tokenizer
from penchant.platform.text_recipes import Lora, TextRecipe, TextTraining
from penchant.trainers.accelerator import moved, own_device
from penchant.trainers.course import Group
from penchant.trainers.pretrain.network import asked_loss, build_pretrain_network
from penchant.trainers.pretrain.plan import Asker
from penchant.trainers.sequence.item_encoder import build_encoder
from penchant.trainers.sequence.learner import _Joint
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import TrainingPlan
from penchant.trainers.text.loss import text_loss
from penchant.trainers.text.network import build_network
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.text.words import read_words
from penchant.trainers.text.zero_shot import begin, continue_
from penchant.trainers.worker_group import takes_gpus, worker_group

META = torch.device("meta")
ALONE = Group(rank=0, workers=1)
#: CUDA takes indices that are on the CPU, and copies go from device to device.
_COPIES = ("aten.copy_", "aten._to_copy")
_INDEXED = ("aten.index.", "aten.index_put", "aten._index_put_impl")


class OneDevice(TorchDispatchMode):
    """As strict as CUDA: all tensors of an operation, but single numbers, are on one device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        strict = (args[0], args[2:]) if str(func).startswith(_INDEXED) else (args, kwargs)
        tensors = [x for x in tree_leaves(strict) if isinstance(x, torch.Tensor) and x.ndim]
        devices = {tensor.device.type for tensor in tensors}
        if len(devices) > 1 and not str(func).startswith(_COPIES):
            raise RuntimeError(f"{func} got tensors on {sorted(devices)}")
        if str(func).startswith("aten._local_scalar_dense") and devices <= {"meta"}:
            return False  # transformers ask whether a mask is full: meta tensors have no numbers
        return func(*args, **(kwargs or {}))


def test_the_stand_in_is_as_strict_as_a_gpu() -> None:
    there, here = torch.ones(2, 2, device=META), torch.ones(2, 2)
    with OneDevice():
        with pytest.raises(RuntimeError, match="cpu"):
            there @ here
        assert (there * torch.tensor(2.0)).device == META
        assert there[torch.tensor([0])].device == META


@dataclass(frozen=True)
class Inner:
    ids: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    number: int
    none: torch.Tensor | None
    parts: tuple[Inner, ...]


def test_all_tensors_of_a_batch_move_and_the_rest_stays() -> None:
    batch = Outer(inner=Inner(torch.arange(3)), number=7, none=None, parts=(Inner(torch.ones(1)),))
    there = moved(batch, META)
    assert there.inner.ids.device == there.parts[0].ids.device == META
    assert (there.number, there.none) == (7, None)
    assert moved(batch, torch.device("cpu")).inner.ids is batch.inner.ids


@pytest.mark.parametrize("place", ["baskets", "binary"])
@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks
def test_the_loss_of_text_leaves_nothing_behind(place, lora, world, tiny_base) -> None:
    past = world(place).past
    recipe = TextRecipe(
        kind="text", base=str(tiny_base), lora=lora, label_smoothing=0.1, positive_weight=2.0
    )
    network = build_network(recipe, binary=place == "binary")
    words = read_words(recipe, past, network.base.config)
    plan = TextPlan(recipe, past, words.writer, words.frame, words.log_share)
    lists, batches = plan.epoch(0)
    network.to(META)
    step = moved(plan.step(lists, batches[0], (0, 0), 0, 1), META)
    with OneDevice():
        text_loss(network, recipe, step, ALONE).backward()
    learned = [p for p in network.parameters() if p.requires_grad and p.grad is not None]
    assert len(learned) > 2
    assert {parameter.grad.device for parameter in learned} == {META}


@pytest.mark.parametrize("name", ["sequence-groups", "sequence-text"])
def test_the_loss_of_a_sequence_leaves_nothing_behind(name, world, recipes) -> None:
    past, recipe = world("baskets").past, recipes[name]
    recipe = recipe.model_copy(update={"dropout": 0.1})
    text = torch.randn(past.log.num_items, 5) if recipe.text else None
    plan = TrainingPlan(recipe, past)
    network = SequenceNetwork(recipe, past.log.num_items, text).to(META)
    step = moved(plan.step(plan.pieces(0), plan.batches(0)[0], 0, 0, 1), META)
    with OneDevice():
        basket_loss(network(step.batch), step.target, step.target_request).sum().backward()
    assert network.item_bias.grad.device == META


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks
def test_an_item_encoder_that_learns_leaves_nothing_behind(world, recipes, grocer_bert) -> None:
    past = world("baskets").past
    training = TextTraining(vectors="joint", lora=Lora(rank=2), batch_items=4)
    recipe = recipes["sequence-text"].model_copy(update={"text_training": training})
    encoder = build_encoder(str(grocer_bert), training, past.texts, 0)
    network = SequenceNetwork(recipe, past.log.num_items, torch.randn(past.log.num_items, 8))
    joint = _Joint(network, encoder, ALONE).to(META)
    plan = TrainingPlan(recipe, past)
    step = moved(plan.step(plan.pieces(0), plan.batches(0)[0], 0, 0, 1), META)
    items = np.arange(past.log.num_items)
    with OneDevice():
        logits = joint(step.batch, items, torch.ones(len(items), 1, device=META))
        basket_loss(logits, step.target, step.target_request).sum().backward()
        assert encoder.all_vectors(ALONE).device == META
    assert any(p.grad is not None for p in encoder.parameters())


def test_pretraining_leaves_nothing_behind(tiny_base) -> None:
    network = build_pretrain_network(str(tiny_base), None, masked=True).to(META)
    asker = Asker(load_tokenizer(str(tiny_base)), masked=True, tokens=16)
    rows = TokenLists.of([list(range(5, 21)), list(range(9, 19))])
    asked = asker.ask(rows, np.random.default_rng(0))
    with OneDevice():
        asked_loss(network(asked), asked).backward()
    assert network.model.get_input_embeddings().weight.grad.device == META


def test_asking_a_language_model_leaves_nothing_behind() -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = transformers.LlamaForCausalLM(config).to(META)
    with OneDevice(), torch.no_grad():
        begun = begin(model, [np.array([5, 6, 7]), np.array([4])])
        after = continue_(model, begun, [1, 0, 1], [np.array([3, 4]), np.array([6]), np.array([7])])
    assert (after.device, after.shape) == (META, (3, 2, 20))


def test_each_worker_has_a_gpu_where_there_is_one_for_each(monkeypatch) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    scaling, torch_config = worker_group(workers=2, cpus=3, gpus=2)
    assert scaling._resources_per_worker_not_none == {"CPU": 3, "GPU": 1}
    assert torch_config.backend == "cpu:gloo,cuda:nccl"


@pytest.mark.parametrize(("gpus", "accelerator"), [(1, None), (0, None), (8, "cpu")])
def test_without_a_gpu_for_each_workers_have_none(gpus, accelerator, monkeypatch) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    if accelerator is not None:
        monkeypatch.setenv("DS_ACCELERATOR", accelerator)
    assert not takes_gpus(2, gpus)
    scaling, torch_config = worker_group(workers=2, cpus=3, gpus=gpus)
    assert scaling._resources_per_worker_not_none == {"CPU": 3}
    assert torch_config.backend == "gloo"


@pytest.mark.gpu
def test_this_process_computes_on_the_gpu_that_it_sees() -> None:
    assert own_device().type == "cuda"
