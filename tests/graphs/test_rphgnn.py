"""RpHGNN is its formula, batch by batch as all at once; the classifier learns from a graph, not from labels it must not see."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from specimens import Specimen
from torch_geometric.data import HeteroData

from ritz.graphs import RpHGNN, RpHGNNClassifier, RpHGNNPrecompute

SHAPES = [(3, 5), (1, 4)]
SMALL = {"hidden": 8, "epochs": 3, "input_dropout": 0.1, "dropout": 0.1}


def venues_tell(n: int = 90, *, seed: int = 0) -> HeteroData:
    """Authors of three fields, whose papers appear in venues of their field; no features."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    author = np.repeat(np.arange(n), 3)
    venue = 3 * rng.integers(2, size=3 * n) + y[author]
    data = HeteroData({"author": {"num_nodes": n}, "paper": {"num_nodes": 3 * n}, "venue": {"num_nodes": 6}})
    data["author", "writes", "paper"].edge_index = torch.from_numpy(np.stack([author, np.arange(3 * n)]))
    data["paper", "in", "venue"].edge_index = torch.from_numpy(np.stack([np.arange(3 * n), venue]))
    data["author"].y = torch.from_numpy(y)
    data["author"].train_mask, data["author"].val_mask = torch.arange(n) < n // 3, torch.arange(n) >= 2 * n // 3
    return data


def classifier(**options) -> RpHGNNClassifier:
    transform = RpHGNNPrecompute("author", hops=2, feature_dim_random=16, rng=0)
    return RpHGNNClassifier(transform, **(SMALL | options))


SPECIMENS = {
    "RpHGNN": Specimen(
        RpHGNN,
        lambda: {
            "group_shapes": SHAPES,
            "num_classes": 3,
            "hidden": 8,
            "conv_filters": 2,
            "group_layers": 2,
            "out_layers": 2,
            "merge": "mean",
            "input_dropout": 0.1,
            "dropout": 0.1,
        },
    ),
    "RpHGNNClassifier.fit": Specimen(
        lambda **options: classifier(**options).fit(venues_tell(18)),
        lambda: (
            SMALL
            | {
                "label_groups": True,
                "conv_filters": 2,
                "group_layers": 1,
                "out_layers": 1,
                "merge": "concat",
                "patience": 2,
                "batch_size": 8,
                "learning_rate": 0.01,
                "seed": 0,
            }
        ),
    ),
    "RpHGNNClassifier": Specimen(lambda nodes: classifier(epochs=1).fit(venues_tell(18)).predict(nodes), lambda: {"nodes": np.array([0, 3, 5])}),
}


def groups(count: int = 7):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, *shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("merge", ["concat", "mean"])
def test_equals_its_formula_with_a_convolution_over_hops(merge):
    torch.manual_seed(0)
    model = RpHGNN(SHAPES, 2, hidden=6, merge=merge).eval()
    vectors = []
    for group, mixture, encoder in zip(groups(), model.mixtures, model.encoders):
        torch.nn.init.normal_(mixture.bias)
        h = torch.nn.functional.conv1d(group, mixture.weight[:, :, None], mixture.bias).flatten(1)
        for linear, slope in ((encoder[0], encoder[1]), (encoder[3], encoder[4])):
            h = linear(h)
            h = torch.where(h > 0, h, slope.weight * h)
        vectors.append(h)
    merged = torch.cat(vectors, 1) if merge == "concat" else sum(vectors) / 2
    torch.testing.assert_close(model(groups()), model.classify(merged), atol=1e-6, rtol=1e-5)
    assert model.mixtures[0].out_features == 2
    assert model.mixtures[1].out_features == 1  # one hop, one filter


def test_starts_with_normal_weights_zero_biases_and_trains_every_parameter():
    torch.manual_seed(0)
    model = RpHGNN([(3, 64)], 2, hidden=200)
    weight = model.encoders[0][3].weight
    assert abs(float(weight.detach().std()) / (2 / 400) ** 0.5 - 1) < 0.05
    assert all(not module.bias.any() for module in model.modules() if isinstance(module, torch.nn.Linear))
    model([torch.randn(9, 3, 64)]).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_batches_give_what_all_nodes_give():
    model = RpHGNN(SHAPES, 3, hidden=8).eval()
    whole = model(groups())
    parts = torch.cat([model([group[i : i + 2] for group in groups()]) for i in range(0, 7, 2)])
    torch.testing.assert_close(parts, whole)
    fitted = classifier(epochs=1, batch_size=7).fit(venues_tell())
    shuffled = np.random.default_rng(0).permutation(90)
    np.testing.assert_allclose(fitted.decision_function(shuffled), fitted.decision_function()[shuffled], atol=1e-5)


def test_half_precision_groups_are_computed_in_the_weights_dtype():
    model = RpHGNN(SHAPES, 3, hidden=8).eval()
    halves = [group.half() for group in groups()]
    assert torch.equal(model(halves), model([group.float() for group in halves]))


@pytest.mark.parametrize("label_groups", [False, True])
def test_learns_fields_from_venues_and_never_sees_test_labels(label_groups):
    data = venues_tell(240)
    model = classifier(epochs=40, hidden=16, batch_size=32, label_groups=label_groups).fit(data)
    test = ~(data["author"].train_mask | data["author"].val_mask).numpy()
    assert (model.predict()[test] == data["author"].y.numpy()[test]).mean() > 0.8  # 0.33 by chance
    hidden = venues_tell(240)
    hidden["author"].y[torch.from_numpy(test)] = -5
    np.testing.assert_array_equal(clone(model).fit(hidden).decision_function(), model.decision_function())


def test_without_the_graph_there_is_nothing_to_learn():
    data = venues_tell(240)
    shuffled = data["paper", "in", "venue"].edge_index
    shuffled[1] = torch.from_numpy(np.random.default_rng(1).permutation(shuffled[1].numpy()))
    model = classifier(epochs=40, hidden=16, batch_size=32).fit(data)
    assert (model.predict()[80:160] == data["author"].y.numpy()[80:160]).mean() < 0.5


def test_takes_groups_that_are_there_and_keeps_the_best_state():
    data = venues_tell()
    ready = RpHGNNPrecompute("author", hops=2, feature_dim_random=16, rng=0)(data)
    first, second = classifier(epochs=30, patience=3).fit(data), classifier(epochs=30, patience=3).fit(ready)
    np.testing.assert_array_equal(first.decision_function(), second.decision_function())
    losses = first.validation_losses_
    assert len(losses) == 30 or losses.argmin() == len(losses) - 4
    validation = data["author"].val_mask.numpy()
    logits = torch.from_numpy(first.decision_function(np.flatnonzero(validation)))
    assert torch.nn.functional.cross_entropy(logits, data["author"].y[validation]).item() == pytest.approx(losses.min(), abs=1e-6)


def test_several_labels_a_node():
    data = venues_tell()
    y = data["author"].y
    data["author"].y = torch.stack([y == 0, y > 0], dim=1).long()
    predicted = classifier(epochs=40, hidden=16, label_groups=True).fit(data).predict()
    assert predicted.shape == (90, 2)
    assert (predicted == data["author"].y.numpy())[30:60].mean() > 0.85


def test_bad_input_is_refused():
    with pytest.raises(NotFittedError):
        classifier().predict()
    with pytest.raises(ValueError, match="groups must have shapes"):
        RpHGNN(SHAPES, 2)(groups()[:1])
    with pytest.raises(ValueError, match="group_shapes"):
        RpHGNN([], 2)
    with pytest.raises(TypeError, match="transform must be"):
        RpHGNNClassifier("author").fit(venues_tell())
    with pytest.raises(ValueError, match="transform must have a target"):
        RpHGNNClassifier(RpHGNNPrecompute("field")).fit(venues_tell())
    for name in ("y", "train_mask", "val_mask"):
        data = venues_tell()
        del data["author"][name]
        with pytest.raises(ValueError, match=f"data must have '{name}'"):
            classifier().fit(data)
    for name, value, message in (
        ("y", torch.zeros(90), "y must be integers"),
        ("y", torch.full((90,), -1), "must number classes from 0"),
        ("y", torch.full((90, 2), 2), "zeros and ones"),
        ("train_mask", torch.zeros(90, dtype=torch.bool), "train_mask must be a bool mask"),
        ("val_mask", torch.ones(90), "val_mask must be a bool mask"),
    ):
        data = venues_tell()
        data["author"][name] = value
        with pytest.raises(ValueError, match=message):
            classifier().fit(data)
