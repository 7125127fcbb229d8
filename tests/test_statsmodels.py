"""Chapter 06's analysis of variance against statsmodels, in the types and codings that mean the same, and in the one that does not."""
import numpy as np
import pytest

from unet_course.analysis import anova
from unet_course.experiments import FACTORIAL

pandas = pytest.importorskip('pandas', reason='pandas is not installed (pip install ".[dev]"): the analysis of variance is not compared')
pytest.importorskip('statsmodels', reason='statsmodels is not installed (pip install ".[dev]"): the analysis of variance is not compared')
from statsmodels.formula.api import ols  # noqa: E402
from statsmodels.stats.anova import anova_lm  # noqa: E402

EFFECTS = ('loss', 'down', 'up', 'loss × down', 'loss × up', 'down × up')


def made(seeds=3, rng=0):
    "Values [seeds, 8] with blocks, two main effects and an interaction."
    draws = np.random.default_rng(rng)
    level = [.005 * (v.down == 'mp') - .003 * (v.loss == 'dice') + .004 * (v.down == 'mp' and v.loss == 'dice') for v in FACTORIAL]
    return .75 + draws.normal(0, .01, (seeds, 1)) + np.array(level) + draws.normal(0, .002, (seeds, 8))


def table(values, kind, factor):
    runs = pandas.DataFrame([dict(loss=v.loss, down=v.down, up=v.up, seed=s, iou=values[s, i]) for s in range(len(values)) for i, v in enumerate(FACTORIAL)])
    loss, down, up = (factor.format(name) for name in ('loss', 'down', 'up'))
    found = anova_lm(ols(f'iou ~ C(seed) + ({loss} + {down} + {up})**2', runs).fit(), typ=kind).drop(['C(seed)', 'Residual', 'Intercept'], errors='ignore')
    return {effect: (row['F'], row['PR(>F)']) for effect, (_, row) in zip(EFFECTS, found.iterrows(), strict=True)}


@pytest.mark.parametrize('kind, factor', [(1, 'C({})'), (2, 'C({})'), (1, 'C({}, Sum)'), (2, 'C({}, Sum)'), (3, 'C({}, Sum)')])
@pytest.mark.parametrize('seeds', [2, 3, 5])
def test_f_and_p_are_those_of_statsmodels(kind, factor, seeds):
    values = made(seeds, rng=seeds)
    theirs = table(values, kind, factor)
    for row in anova(values):
        f, p = theirs[row['effect']]
        assert (row['estimate'] / row['se']) ** 2 == pytest.approx(f, rel=1e-6) and row['p'] == pytest.approx(p, rel=1e-5, abs=1e-12)


def test_type_3_with_the_usual_coding_of_a_formula_is_another_question():
    values = made()
    theirs, ours = table(values, 3, 'C({})'), {row['effect']: (row['estimate'] / row['se']) ** 2 for row in anova(values)}
    assert theirs['down'][0] < ours['down'] / 2, 'a main effect at the first level of the other factors'
    for effect in EFFECTS[3:]: assert theirs[effect][0] == pytest.approx(ours[effect], rel=1e-6)  # interactions are the same
