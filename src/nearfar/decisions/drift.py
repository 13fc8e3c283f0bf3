"""Whether something changes slowly over days: a test with a stated false rate, which a sudden fault does not pass.

Values of windows come by the thousand, and those of one hour have much in common. So they are first made few:

1. **Blocks.** The median of each hour; then one value for each block, a day by default. A median polish of blocks
   by hours of the block [1]_ takes out what returns in every block, such as shifts and nights, and lets a block in
   which hours are missing be compared with the others.
2. **Is there a trend?** Kendall's rank correlation with time [2]_ [3]_, divided by its standard deviation under
   dependence between blocks [4]_: an autoregressive process of order one, whose coefficient is estimated from what
   a line leaves, with its bias by the fit taken out [5]_. How large that ratio becomes by chance is simulated, for
   each coefficient of ``DEPENDENCE`` with which so low an estimate would not be strange; the largest of these
   p-values counts [10]_. So the false rate holds for independent blocks and for those with a memory of days, up to
   the last of these coefficients.
3. **Is there a step?** The same, with the likelihood ratio of the best step, at any place, and no change [6]_.
4. **Slowly or suddenly?** The two models are not nested, so their likelihood ratio is compared with its
   distribution under each of them, simulated (Cox [7]_, Williams [8]_). A drift is told only if a step, the best
   one, would hardly ever give so straight a line. A sudden change is told only if the best line would hardly ever
   give such a step. The block in which a step happens belongs to neither side: a fault that grows within hours is a
   step.

A trend without the second proof is ``"unclear"``: more blocks will tell.

Conventions
-----------
Times are in seconds, from any origin, such as midnight; a block begins at a multiple of its length. NaN is a value
that is not known. Everything is deterministic: the simulations have a seed.

References
----------
.. [1] J. W. Tukey, Exploratory Data Analysis, 1977 (median polish).
.. [2] H. B. Mann, "Nonparametric tests against trend," Econometrica 13, 1945.
.. [3] M. G. Kendall, Rank Correlation Methods, 4th ed., 1975.
.. [4] K. H. Hamed, A. R. Rao, "A modified Mann-Kendall trend test for autocorrelated data," Journal of Hydrology
   204, 1998; here with the autocorrelation that one coefficient gives in place of all that are significant.
.. [5] F. H. C. Marriott, J. A. Pope, "Bias in the estimation of autocorrelations," Biometrika 41, 1954; N. P. van
   Giersbergen, "On the effect of deterministic terms on the bias in stable AR models," Economics Letters 89, 2005
   (of a line: ``-(2 + 4 phi) / n``).
.. [6] R. E. Quandt, "Tests of the hypothesis that a linear regression system obeys two separate regimes," Journal
   of the American Statistical Association 55, 1960; D. W. K. Andrews, "Tests for parameter instability and
   structural change with unknown change point," Econometrica 61, 1993.
.. [7] D. R. Cox, "Tests of separate families of hypotheses," Proceedings of the Fourth Berkeley Symposium, 1961.
.. [8] D. A. Williams, "Discrimination between regression models to determine the pattern of enzyme synthesis in
   synchronous cell cultures," Biometrics 26, 1970 (the distribution of the ratio, simulated under each model).
.. [9] P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau," Journal of the American
   Statistical Association 63, 1968 (the slope and its interval).
.. [10] R. L. Berger, D. D. Boos, "P values maximized over a confidence set for the nuisance parameter," Journal of
   the American Statistical Association 89, 1994.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Kind = Literal["none", "drift", "sudden", "unclear"]

HOUR, DAY = 3600.0, 86_400.0
FALSE_RATE = 0.05
FEWEST = 10  # blocks: with fewer, even a straight line is not told from a step at 1 %
MOST = 120  # blocks; more are joined
COVERED = 0.5  # of the hours that a usual block has; a block with fewer has no value
POLISHES = 20  # sweeps of the median polish; it ends earlier where nothing changes any more
DEPENDENCE = (0.0, 0.2, 0.4, 0.6, 0.8)  # of one block on the one before, for which the false rate must hold
LARGEST = 0.95  # coefficient that is ever estimated
STRANGE = 0.1  # of the false rate: so rarely may a coefficient be left out that is the true one
SIMULATED = 4999  # series for each of them
SEED = 13711
ENDS = 2  # blocks on each side of a step, at least


@dataclass(frozen=True, slots=True)
class Blocks:
    """One value for each block of time that has one.

    Attributes
    ----------
    seconds : float
        Length of a block.
    number : (n,) array of int
        Which block, ascending: it begins at ``number * seconds``.
    values : (n,) array
        The middle of its hours, without what returns in every block.
    hours : (n_hours, 2) array
        Where each hour begins, in seconds, and its median without what returns; in order of time.
    """

    seconds: float
    number: NDArray[np.int64]
    values: Float
    hours: Float

    @property
    def span(self) -> int:
        """Blocks from the first to the last, those without a value included."""
        return int(self.number[-1] - self.number[0]) + 1


@dataclass(frozen=True, slots=True)
class Change:
    """What is found of one quantity.

    Attributes
    ----------
    kind : {"none", "drift", "sudden", "unclear"}
        ``"unclear"``: it changes, and whether slowly or suddenly cannot be told yet.
    blocks, span : int
        Blocks with a value, and blocks from the first to the last.
    first, last : float
        Where the first block begins and the last one ends, in seconds.
    level : float
        Median of the values of the blocks.
    slope, low, high : float
        Change per day: the median of the slopes between all pairs of blocks, and its interval, with a confidence of
        one minus the false rate.
    at : float or None
        Where the best step is, in seconds: the hour of it. ``None`` unless ``kind`` is ``"sudden"``.
    step : float
        By how much the mean of the blocks after the best step is higher than of those before.
    p_trend, p_step : float
        How often so strong a trend, so strong a step, would be seen where nothing changes.
    p_not_sudden, p_not_slow : float
        How often so straight a line would be seen after a sudden change; so sharp a step, of a slow one. NaN if
        nothing changes.
    """

    kind: Kind
    blocks: int
    span: int
    first: float
    last: float
    level: float
    slope: float
    low: float
    high: float
    at: float | None
    step: float
    p_trend: float
    p_step: float
    p_not_sudden: float
    p_not_slow: float


def blocks(times: Float, values: Float, *, seconds: float = DAY) -> Blocks:
    """The values of windows as one value for each block.

    Parameters
    ----------
    times, values : (n,) array
        In seconds, in any order; a value that is not finite is passed over.
    seconds : float
        Length of a block: whole hours.

    Raises
    ------
    ValueError
        If a block is not of whole hours, or there is no value.
    """
    if not (seconds >= HOUR and (seconds / HOUR).is_integer()):
        raise ValueError(f"block={seconds / HOUR:g} h: must be whole hours, at least 1, such as 24")
    times, values = np.asarray(times, np.float64), np.asarray(values, np.float64)
    known = np.isfinite(values) & np.isfinite(times)
    if not known.any():
        raise ValueError("no value is known: all are missing, or of windows that cannot be used")
    hour = np.floor(times[known] / HOUR).astype(np.int64)
    order = np.lexsort((values[known], hour))
    hour, ordered = hour[order], values[known][order]
    there, begins, counts = np.unique(hour, return_index=True, return_counts=True)
    median = (ordered[begins + (counts - 1) // 2] + ordered[begins + counts // 2]) / 2
    per_block = round(seconds / HOUR)
    number, row = np.unique(there // per_block, return_inverse=True)
    table = np.full((len(number), per_block), np.nan)
    table[row, there % per_block] = median
    by_block, by_hour = median_polish(table)
    n_hours = np.isfinite(table).sum(axis=1)
    enough = n_hours >= COVERED * np.median(n_hours)
    hours = np.stack([there * HOUR, median - by_hour[there % per_block]], axis=1)
    return Blocks(seconds, number[enough], by_block[enough], hours)


def median_polish(table: Float) -> tuple[Float, Float]:
    """Effects of rows and of columns, whose sum comes closest to a table; NaN is a cell that is not known.

    Parameters
    ----------
    table : (rows, columns) array
        Every row has a cell that is known.

    Returns
    -------
    (rows,) array, (columns,) array
        The effects of columns have the median 0; those of rows hold the level. 0 for a column without a cell.
    """
    some = np.isfinite(table).any(axis=0)
    rows, columns = np.zeros(len(table)), np.zeros(table.shape[1])
    for _ in range(POLISHES):
        of_rows = np.nanmedian(table - columns, axis=1)
        of_columns = columns.copy()
        of_columns[some] = np.nanmedian(table[:, some] - of_rows[:, None], axis=0)
        of_columns[some] -= np.median(of_columns[some])
        same = np.array_equal(of_rows, rows) and np.array_equal(of_columns, columns)
        rows, columns = of_rows, of_columns
        if same:
            break
    return np.nanmedian(table - columns, axis=1), columns


def refuse_rate(false_rate: float, *, tests: int = 1, simulated: int = SIMULATED) -> None:
    """Raise a ``ValueError`` if a false rate of so many tests is none, or too small for so many simulations."""
    least = 5 * tests / (simulated + 1)
    if not least <= false_rate < 0.5:
        raise ValueError(f"false_rate={false_rate:g}: must be at least {least:g} and below 0.5, such as 0.05")


def change(found: Blocks, *, false_rate: float = FALSE_RATE, simulated: int = SIMULATED) -> Change:
    """Whether the values of blocks change, and how.

    Parameters
    ----------
    found : Blocks
    false_rate : float
        How often a drift may be found where there is none, be it that nothing changes or that something changes
        suddenly.
    simulated : int
        Series for each p-value.

    Raises
    ------
    ValueError
        If there are fewer than ``FEWEST`` blocks, or the rate cannot be had.

    Examples
    --------
    Three weeks of hours, one dB more every week.

    >>> import numpy as np
    >>> from nearfar.decisions.drift import blocks, change
    >>> hours = np.arange(21 * 24.0)
    >>> level = -40 + hours / 168 + np.random.default_rng(0).normal(size=hours.size)
    >>> found = change(blocks(3600 * hours, level))
    >>> found.kind, found.low < 1 / 7 < found.high
    ('drift', True)
    """
    refuse_rate(false_rate, simulated=simulated)
    if len(found.number) < FEWEST:
        raise ValueError(
            f"{len(found.number)} blocks of {found.seconds / HOUR:g} h have values: at least {FEWEST} are needed "
            "to tell a slow change from chance; go on recording, or choose shorter blocks"
        )
    y, t = found.values, (found.number - found.number[0]).astype(np.float64)
    places = tuple(int(number) for number in t)
    strange = STRANGE * false_rate
    of_line, of_step = _by_chance(places, simulated)
    by_line, by_step = _of_line(y, t), _of_step(y, t)
    p_trend, p_step = of_line.p_value(by_line, strange), of_step.p_value(by_step, strange)
    p_not_sudden = p_not_slow = np.nan
    if min(p_trend, p_step) <= false_rate:
        p_not_sudden, p_not_slow = _separate(y, t, (of_line, of_step), strange)
    slope, low, high = sen(
        y, t, spread=of_line.quantile(by_line, strange, false_rate) * float(by_line.deviation)
    )
    kind = _kind(p_trend, p_step, p_not_sudden, p_not_slow, false_rate)
    place, before, after = step(y)
    per_day = DAY / found.seconds
    return Change(
        kind=kind, blocks=len(y), span=found.span, first=float(found.number[0] * found.seconds),
        last=float((found.number[-1] + 1) * found.seconds), level=float(np.median(y)), slope=slope * per_day,
        low=low * per_day, high=high * per_day, at=_hour_of(found, int(place)) if kind == "sudden" else None,
        step=float(after - before), p_trend=p_trend, p_step=p_step, p_not_sudden=p_not_sudden,
        p_not_slow=p_not_slow,
    )  # fmt: skip


def _kind(p_trend: float, p_step: float, p_not_sudden: float, p_not_slow: float, rate: float) -> Kind:
    if p_trend <= rate and p_not_sudden <= rate:
        return "drift"
    if p_step <= rate and p_not_slow <= rate:
        return "sudden"
    return "unclear" if min(p_trend, p_step) <= rate else "none"


# Statistics: of one series, (n,), or of many, (..., n)


def kendall(y: Float) -> Float:
    """Pairs that rise less pairs that fall, in order of time: (..., n) to (...)."""
    found = np.zeros(y.shape[:-1])
    for lag in range(1, y.shape[-1]):
        found += np.sign(y[..., lag:] - y[..., :-lag]).sum(axis=-1)
    return found


def kendall_variance(n: int, coefficient: Float | float) -> Float:
    """Of ``kendall``, if each of n values depends on the one before with this coefficient by [4]."""
    lag = np.arange(1, n - 2)
    weight = (n - lag) * (n - lag - 1.0) * (n - lag - 2)
    of_ranks = 6 / np.pi * np.arcsin(np.asarray(coefficient)[..., None] ** lag / 2)  # their autocorrelation
    inflated = 1 + 2 / (n * (n - 1) * (n - 2)) * (of_ranks @ weight)
    return np.asarray(n * (n - 1) * (2 * n + 5) / 18 * inflated)


def step(y: Float) -> tuple[NDArray[np.intp], Float, Float]:
    """The best step by least squares: (..., n) to its block, and the means before and after it, (...) each.

    The block of the step is on neither side.
    """
    n = y.shape[-1]
    centre = y.mean(axis=-1, keepdims=True)
    sums, squares = np.cumsum(y - centre, axis=-1), np.cumsum((y - centre) ** 2, axis=-1)
    k = np.arange(ENDS, n - ENDS)
    before, after = sums[..., k - 1], sums[..., -1:] - sums[..., k]
    left = squares[..., k - 1] + squares[..., -1:] - squares[..., k] - before**2 / k - after**2 / (n - 1 - k)
    best = left.argmin(axis=-1)[..., None]
    place = k[best]
    of_before = np.take_along_axis(before, best, axis=-1) / place + centre
    of_after = np.take_along_axis(after, best, axis=-1) / (n - 1 - place) + centre
    return place[..., 0], of_before[..., 0], of_after[..., 0]


def sen(y: Float, t: Float, *, spread: float) -> tuple[float, float, float]:
    """The median of the slopes between all pairs, and its interval [9].

    Parameters
    ----------
    y, t : (n,) array
    spread : float
        By how much ``kendall`` may differ from 0 by chance: quantile times standard deviation.
    """
    first, second = np.triu_indices(len(y), k=1)
    slopes = np.sort((y[second] - y[first]) / (t[second] - t[first]))
    low = int(np.clip(np.round((len(slopes) - spread) / 2), 1, len(slopes))) - 1
    high = int(np.clip(np.round((len(slopes) + spread) / 2) + 1, 1, len(slopes))) - 1
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def _line(y: Float, t: Float) -> Float:
    """The best line by least squares: (..., n) to (..., n)."""
    centred = t - t.mean()
    return y.mean(axis=-1, keepdims=True) + (y @ centred / (centred @ centred))[..., None] * centred


def _stairs(y: Float) -> Float:
    """The best step as a series; the block of the step is halfway, or where it is if it lies between."""
    place, before, after = (x[..., None] for x in step(y))
    at = np.arange(y.shape[-1])
    between = np.clip(y, np.minimum(before, after), np.maximum(before, after))
    return np.where(at < place, before, np.where(at > place, after, between))


def _coefficient(rest: Float, t: Float) -> Float:
    """Of one block on the one before, from what a fit of two numbers leaves, without the bias of that [5]."""
    n, neighbours = len(t), np.flatnonzero(np.diff(t) == 1)
    product = (rest[..., neighbours] * rest[..., neighbours + 1]).mean(axis=-1) if len(neighbours) else 0.0
    found = product / np.maximum((rest**2).mean(axis=-1), 1e-300)
    return np.clip((n * found + 2) / (n - 4), 0, LARGEST)


@dataclass(frozen=True, slots=True)
class _Statistic:
    """Of one or many series: its size, the coefficient of what the fit leaves, and one standard deviation of it."""

    size: Float
    coefficient: Float
    deviation: Float


@dataclass(frozen=True, slots=True)
class _Chance:
    """Simulated series of each of ``DEPENDENCE``, (coefficients, simulated, n), and their statistic."""

    noise: Float
    found: _Statistic

    def likely(self, of: _Statistic, strange: float) -> list[int]:
        """With which coefficients so low an estimate would not be strange; always the smallest."""
        below = (self.found.coefficient <= of.coefficient).mean(axis=-1)
        return [0, *(i for i in range(1, len(DEPENDENCE)) if below[i] >= strange)]

    def p_value(self, of: _Statistic, strange: float) -> float:
        likely = self.likely(of, strange)
        return largest_p_value(self.found.size[likely], float(of.size), strange)

    def quantile(self, of: _Statistic, strange: float, rate: float) -> float:
        """What the statistic exceeds by chance with this rate."""
        likely = self.likely(of, strange)
        return float(np.quantile(self.found.size[likely], 1 - rate + strange, axis=-1).max())


def largest_p_value(by_chance: Float, size: float, strange: float) -> float:
    """How often it is as large by chance, (rows, simulated), in the worst row; plus what was left out."""
    as_large = (by_chance >= size - 1e-12 * abs(size)).sum(axis=-1)
    return min(1.0, float(((1 + as_large) / (1 + by_chance.shape[-1])).max()) + strange)


def _of_line(y: Float, t: Float) -> _Statistic:
    coefficient = _coefficient(y - _line(y, t), t)
    deviation = np.sqrt(kendall_variance(len(t), coefficient))
    return _Statistic(np.abs(kendall(y)) / deviation, coefficient, deviation)


def _of_step(y: Float, t: Float) -> _Statistic:
    coefficient = _coefficient(y - _stairs(y), t)
    return _Statistic(sharpness(y), coefficient, np.ones_like(coefficient))


@lru_cache(maxsize=4)
def _by_chance(places: tuple[int, ...], simulated: int) -> tuple[_Chance, _Chance]:
    """What line and step find in series in which nothing changes, with values at these places."""
    white = np.random.default_rng(SEED).standard_normal((simulated, places[-1] + 1))
    noise = np.empty((len(DEPENDENCE), simulated, len(places)))
    for i, coefficient in enumerate(DEPENDENCE):
        whole = white.copy()
        for k in range(1, whole.shape[1]):
            whole[:, k] = coefficient * whole[:, k - 1] + np.sqrt(1 - coefficient**2) * white[:, k]
        noise[i] = whole[:, places]
    t = np.array(places, np.float64)
    return _Chance(noise, _of_line(noise, t)), _Chance(noise, _of_step(noise, t))


def _without_spikes(y: Float) -> Float:
    """Running medians of three: one block that is unlike both of its neighbours is no step."""
    a, b, c = y[..., :-2], y[..., 1:-1], y[..., 2:]
    middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return np.concatenate([y[..., :1], middle, y[..., -1:]], axis=-1)


def sharpness(y: Float) -> Float:
    """Log of the ratio of the variance to what the best step leaves of it: (..., n) to (...)."""
    y = _without_spikes(y)
    return np.asarray(np.log(_left(y, y.mean(axis=-1, keepdims=True)) / _left(y, _stairs(y))))


def straightness(y: Float, t: Float) -> Float:
    """Log of the ratio of what the best step leaves to what the best line leaves: (..., n) to (...)."""
    y = _without_spikes(y)
    return np.asarray(np.log(_left(y, _stairs(y)) / _left(y, _line(y, t))))


def _left(y: Float, fit: Float) -> Float:
    """The mean square of what a fit leaves; that of a perfect one is not 0, but small, and more than rounding."""
    rounding = (1e-12 * np.abs(y).max(axis=-1)) ** 2 + 1e-300
    return np.asarray(((y - fit) ** 2).mean(axis=-1) + 1e-12 * y.var(axis=-1) + rounding)


def _separate(y: Float, t: Float, by_chance: tuple[_Chance, _Chance], strange: float) -> tuple[float, float]:
    """How often a step gives so straight a line, and a line so sharp a step."""
    found = float(straightness(y, t))
    p_values = []
    for sign, fit, of, chance in (
        (1, _stairs(y), _of_step(y, t), by_chance[1]),
        (-1, _line(y, t), _of_line(y, t), by_chance[0]),
    ):
        rest = np.sqrt(((y - fit) ** 2).sum() / (len(y) - 3))
        likely = chance.likely(of, strange)
        simulated = [straightness(fit + rest * noise, t) for noise in chance.noise[likely]]
        p_values.append(largest_p_value(sign * np.stack(simulated), sign * found, strange))
    return p_values[0], p_values[1]


def _hour_of(found: Blocks, place: int) -> float:
    """The hour before which and after which the medians of hours differ most, near the block of a step."""
    start = (found.number[place] - 1) * found.seconds
    near = found.hours[(found.hours[:, 0] >= start) & (found.hours[:, 0] < start + 3 * found.seconds)]
    if len(near) < 2 * ENDS + 1:
        return float(found.number[place] * found.seconds)
    return float(near[int(step(near[:, 1])[0]), 0])
