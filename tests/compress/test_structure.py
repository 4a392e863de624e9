"""Finding a model's blocks and linear layers."""

import pytest
import torch
from specimens import Specimen
from torch import nn

from ritz.compress import LinearWithLowRankCompensation, find_blocks, linear_modules

SPECIMENS = {
    "find_blocks": Specimen(find_blocks, lambda: {"model": chain()}),
    "linear_modules": Specimen(linear_modules, lambda: {"model": chain()}),
}


def chain():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))


class Network(nn.Module):
    """Two block lists of different size, an embedding and a head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.small = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])
        self.blocks = nn.ModuleList([nn.ModuleDict({"up": nn.Linear(4, 8), "down": nn.Linear(8, 4)}) for _ in range(2)])
        self.head = nn.Linear(4, 5)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)


def test_the_blocks_are_the_largest_module_list():
    assert find_blocks(Network()) == ["blocks.0", "blocks.1"]
    assert list(linear_modules(Network())) == ["blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down"]


def test_without_a_module_list_they_are_a_sequential_or_the_whole():
    assert find_blocks(chain()) == ["0", "1", "2"]
    assert find_blocks(Plain()) == [""]
    assert list(linear_modules(Plain())) == ["first", "second"]
    bare = Plain()
    bare.extra = nn.ModuleList([nn.Linear(50, 50), nn.Linear(50, 50)])
    assert find_blocks(bare) == [""]


def test_blocks_and_layers_can_be_named_or_picked():
    assert find_blocks(Network(), ["small.0"]) == ["small.0"]
    assert find_blocks(Network(), lambda name, module: name.endswith("1")) == ["blocks.1"]
    assert list(linear_modules(Network(), blocks=["small.0"])) == ["small.0.0"]
    assert list(linear_modules(Network(), ["head"])) == ["head"]
    assert list(linear_modules(Network(), lambda name, module: "up" in name)) == ["blocks.0.up", "blocks.1.up"]


def test_the_parts_of_a_replacement_layer_are_not_layers():
    model = chain()
    model[0] = LinearWithLowRankCompensation(model[0], torch.ones(1, 4), torch.ones(4, 1))
    assert list(linear_modules(model)) == ["0", "2"]


def test_a_shared_layer_counts_once():
    model = chain()
    model[2] = model[0]
    assert list(linear_modules(model)) == ["0"]


def test_the_hidden_projection_of_multihead_attention_is_left_alone():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    assert list(linear_modules(encoder)) == ["layers.0.linear1", "layers.0.linear2", "layers.1.linear1", "layers.1.linear2"]


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="modules: there is no module 'third'"):
        linear_modules(Plain(), ["third"])
    with pytest.raises(ValueError, match="modules: nothing"):
        linear_modules(Plain(), lambda name, module: False)
    with pytest.raises(TypeError, match="modules: 'embedding' is no linear layer"):
        linear_modules(Network(), ["embedding"])
    with pytest.raises(TypeError, match="modules must be a sequence of names"):
        linear_modules(Plain(), "first")
    with pytest.raises(ValueError, match="blocks: there is no module"):
        find_blocks(Plain(), ["third"])
    with pytest.raises(ValueError, match="modules: there is no linear layer"):
        linear_modules(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(("architecture", "blocks", "layers"), [("Llama", "model.layers", 7), ("GPT2", "transformer.h", 4)])
def test_hugging_face_models(architecture, blocks, layers):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "Llama": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 20,
        },
        "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 20, "n_positions": 16},
    }[architecture]
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    model = getattr(transformers, "LlamaForCausalLM" if architecture == "Llama" else "GPT2LMHeadModel")(config)
    assert find_blocks(model) == [f"{blocks}.0", f"{blocks}.1"]
    names = list(linear_modules(model))
    assert len(names) == 2 * layers
    assert all(name.startswith(blocks) for name in names)
