"""Compensation ratios on file and by cascade polynomial regression."""

import itertools

import numpy as np
import pytest
from specimens import Specimen

from ritz.diffusion import EDM, CascadePolynomial, Compensation, VPLinear, fit_cascade

RNG = np.random.default_rng(0)
COEFFICIENTS = RNG.normal(size=(4, 3, 3))


def _true_ratios(steps, guidance, dc_order=2):
    """The definition, summed term by term."""
    ratios = np.ones(steps)
    for i in range(dc_order + 1, steps + 1):
        terms = itertools.product(range(4), range(3), range(3))
        ratios[i - 1] = sum(COEFFICIENTS[q, a, b] * (i / steps) ** q * (guidance / 12) ** a * (steps / 50) ** b for q, a, b in terms)
    return ratios


def _searched(all_steps=(5, 8, 10, 15, 20), guidances=(1.5, 3.0, 5.0, 7.5), noise=0.0):
    rng = np.random.default_rng(1)
    return [
        Compensation(_true_ratios(n, w) + noise * rng.normal(size=n), guidance=w, spacing="logsnr", order=2) for n in all_steps for w in guidances
    ]


def test_a_fit_reproduces_ratios_of_its_own_kind():
    searched = _searched()
    assert sum(one.steps - 2 for one in searched) >= 36
    cascade = fit_cascade(searched)
    assert cascade.residual < 1e-10
    for one in searched:
        assert np.allclose(cascade.predict(steps=one.steps, guidance=one.guidance).ratios, one.ratios, rtol=1e-9, atol=1e-9)
    between = cascade.predict(steps=12, guidance=4.0)
    assert np.allclose(between.ratios, _true_ratios(12, 4.0), atol=1e-7)
    assert np.all(between.ratios[:2] == 1)
    assert (between.spacing, between.order, between.guidance, between.steps) == ("logsnr", 2, 4.0, 12)


def test_the_residual_is_what_the_fit_leaves():
    searched = _searched(noise=0.1)
    cascade = fit_cascade(searched)
    left = np.concatenate([cascade.predict(steps=one.steps, guidance=one.guidance).ratios[2:] - one.ratios[2:] for one in searched])
    assert cascade.residual == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-9)
    assert 0.05 < cascade.residual < 0.1


def test_prediction_warns_beyond_what_was_searched_and_refuses_far_beyond():
    cascade = fit_cascade(_searched())
    with pytest.warns(UserWarning, match="steps = 22"):
        cascade.predict(steps=22, guidance=3.0)
    with pytest.warns(UserWarning, match="guidance = 8"):
        cascade.predict(steps=10, guidance=8.0)
    for steps, guidance, name in ((25, 3.0, "steps"), (3, 3.0, "steps"), (10, 9.5, "guidance"), (10, 1.0, "guidance")):
        with pytest.raises(ValueError, match=f"{name} = .* by more than 20 %"):
            cascade.predict(steps=steps, guidance=guidance)


def test_both_survive_their_files(tmp_path):
    one = Compensation(RNG.normal(size=5), "quadratic", 2, "bh2", 3, 1.5, np.linspace(1, 0.1, 6), RNG.random(5))
    one.save(tmp_path / "one.json")
    again = Compensation.load(tmp_path / "one.json")
    cascade = fit_cascade(_searched(noise=0.1))
    cascade.save(tmp_path / "cascade.json")
    for before, after in ((one, again), (cascade, CascadePolynomial.load(tmp_path / "cascade.json"))):
        for name, value in before.as_dict().items():
            assert np.array_equal(getattr(after, name), value), name
    bare = Compensation([1.0, 1.0])
    bare.save(tmp_path / "bare.json")
    assert Compensation.load(tmp_path / "bare.json").losses is None


def test_files_that_are_none(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"ratios": [1]}')
    Compensation([1.0]).save(tmp_path / "spoiled.json")
    (tmp_path / "spoiled.json").write_text((tmp_path / "spoiled.json").read_text().replace('"bh1"', '"bh7"'))
    for name, message in (
        ("broken.json", "cannot be read"),
        ("other.json", "must hold"),
        ("spoiled.json", "variant"),
        ("ratios.npz", "end in .json"),
    ):
        if name.endswith("npz"):
            (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=message):
            Compensation.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Compensation.load(tmp_path / "none.json")


def test_another_schedule_is_refused():
    times = Compensation([1.0, 1.0, 0.9]).grid(VPLinear())
    made = Compensation([1.0, 1.0, 0.9], times=times)
    assert np.array_equal(made.grid(VPLinear()), times)
    for schedule in (EDM(), VPLinear(t_min=0.01)):
        with pytest.raises(ValueError, match="compensation was made for times"):
            made.grid(schedule)


def test_fits_are_refused_without_guidance_or_across_settings():
    with pytest.raises(ValueError, match="guidance"):
        fit_cascade([Compensation([1.0, 1.0, 0.5])])
    with pytest.raises(ValueError, match="must agree"):
        fit_cascade([Compensation([1.0, 1.0, 0.5], guidance=1.0), Compensation([1.0, 1.0, 0.5], guidance=1.0, order=2)])
    with pytest.raises(ValueError, match="too few"):
        fit_cascade([Compensation([1.0, 1.0], guidance=1.0)])
    for nothing in ([], "ratios", [1.0]):
        with pytest.raises(TypeError, match="compensations"):
            fit_cascade(nothing)


SPECIMENS = {
    "Compensation": Specimen(
        Compensation,
        lambda: {
            "ratios": np.ones(3),
            "spacing": "uniform",
            "order": 3,
            "variant": "bh1",
            "dc_order": 2,
            "guidance": 1.5,
            "times": np.linspace(1, 0.1, 4),
            "losses": np.ones(3),
        },
        spare=frozenset({"ratios"}),
        accepts={"guidance": ("none",)},
    ),
    "Compensation.ratios": Specimen(Compensation, lambda: {"ratios": np.ones(3)}),
    "fit_cascade": Specimen(lambda **arguments: fit_cascade(_searched(), **arguments), lambda: {"degree": 3}),
    "CascadePolynomial": Specimen(
        CascadePolynomial,
        lambda: {
            "coefficients": np.ones((4, 3, 3)),
            "residual": 0.1,
            "steps_range": np.array([5.0, 10.0]),
            "guidance_range": np.array([1.5, 7.5]),
            "spacing": "uniform",
            "order": 3,
            "variant": "bh1",
            "dc_order": 2,
        },
    ),
    "CascadePolynomial.predict": Specimen(fit_cascade(_searched()).predict, lambda: {"steps": 8, "guidance": 3.0}),
}
