"""Figures: what is drawn is what was given, whatever the names are, and nothing else is touched."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from numpy.typing import NDArray

from nearfar.decisions.rates import FlaggedShare
from nearfar.evaluation.curves import curves
from nearfar.evaluation.metrics import auc, pauc
from nearfar.report import figures
from nearfar.report.figures import style

NAMES = (
    "<img src=x onerror=alert(1)>.wav",
    r"$\alpha$ costs 5$ and \frac{1}{2}$.wav",
    "_hidden",
    "Lüfter 扇風機 ファン 😀.wav",
    "bytes that are not UTF-8 \udcfc",
    "two\nlines\tand a tab",
    "section_00_source_test_anomaly_0012_" + "very_long_name_of_an_attribute_" * 8 + ".wav",
    "",
)
EDGES = np.geomspace(50.0, 8000.0, 9)
FRAMES = np.arange(7) / 10
LEVELS = -40.0 - np.arange(8.0)
NORMAL = np.stack([LEVELS - 3, LEVELS, LEVELS + 3])


def drawn(figure: Figure, kind: str = "png") -> bytes:
    """The figure as a file; a warning is an error in tests."""
    out = io.BytesIO()
    figure.savefig(out, format=kind)
    return out.getvalue()


def lines(axes: Axes, label: str) -> list[NDArray[np.float64]]:
    """(2, n) arrays of the lines with this label."""
    return [np.array(line.get_data(), dtype=float) for line in axes.lines if line.get_label() == label]


def steps(axes: Axes, label: str) -> StepPatch:
    (found,) = [p for p in axes.patches if isinstance(p, StepPatch) and p.get_label() == label]
    return found


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def rows(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def key(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def named(*given: str) -> Mapping[str, Callable[[], Figure]]:
    """Every figure, with these names wherever one can be given."""
    first, second, third = (given * 3)[:3]
    two = [first, f"{second}2"]
    return {
        "abnormal_map": lambda: figures.abnormal_map(FRAMES, EDGES, np.ones((8, 6)), label=second, title=third),
        "spectra": lambda: figures.spectra(EDGES, LEVELS, NORMAL, label=second, title=third),
        "envelope_spectrum": lambda: figures.envelope_spectrum([1, 2, 3], [0, 1, 0], peaks=[2], title=third),
        "levels": lambda: figures.levels([0, 1], {first: [-30, -31], "far": [-40, np.nan]}, title=third),
        "coherence": lambda: figures.coherence([0, 100, 1000], {first: [1, 0.5, 0.2]}, title=third),
        "spectra_by_domain": lambda: figures.spectra_by_domain(EDGES, {first: NORMAL}, title=third),
        "score_distributions": lambda: figures.score_distributions(
            [1.0, 2.0], ["normal", "anomaly"], two, references=[1.0], threshold=1.5, title=third
        ),
        "roc": lambda: figures.roc([False, True], [1.0, 2.0], title=third),
        "embeddings": lambda: figures.embeddings([[0, 1], [1, 0]], two, title=third),
        "heat_map": lambda: figures.heat_map([[0.5, np.nan]], [first], two, title=third),
        "false_alarm_rates": lambda: figures.false_alarm_rates(
            two, [0.05, np.nan], [1, 0], [9, 9], domain=two, title=third
        ),
        "branch_weights": lambda: figures.branch_weights([[0.4, 0.6]], [first], two, title=third),
        "left_out": lambda: figures.left_out(0.5, {first: 0.4, "b": 0.6}, title=third),
        "seeds": lambda: figures.seeds({first: [0.5, 0.6], "b": [0.7]}, title=third),
        "comparison": lambda: figures.comparison([first], [0.1], [-0.1], [0.2], names=(first, second), title=third),
        "omegas": lambda: figures.omegas({first: (0.5, 0.4, 0.6)}, title=third),
    }  # fmt: skip


@pytest.mark.parametrize("names", [NAMES[i : i + 3] for i in range(0, len(NAMES), 3)])
def test_any_name_can_be_drawn(names: tuple[str, ...]) -> None:
    """Without a warning: of a letter that no font has, an empty legend, or axes that became too small."""
    for draw in named(*names).values():
        assert drawn(draw()).startswith(b"\x89PNG")


def test_there_is_a_test_of_every_figure() -> None:
    assert {*named("a"), "explanation", "of_result"} >= {*figures.__all__}


def test_names_are_not_read_as_mathematics() -> None:
    """The dollar signs are drawn, so that the picture is wider than that of the letters alone."""
    for text in (r"$\alpha$", "$x$", r"\$"):
        figure = figures.omegas({text: (0.5, 0.4, 0.6)}, title=text)
        assert rows(figure.axes[0]) == [text]
        labels = [*figure.axes[0].get_yticklabels(), figure.axes[0].title, figure.axes[0]._left_title]
        assert not any(label.get_parse_math() for label in labels)
        svg = drawn(figure, "svg").decode()
        assert f"<!-- {text} -->" in svg  # of mathematics there would be its symbols


def test_a_name_that_no_font_can_show_is_escaped() -> None:
    assert style.shown("a\U0001f600b\udcfc\n") == r"a\U0001f600b\xfc\x0a" or "\U0001f600" in style.shown(
        "\U0001f600"
    )
    assert style.shown("a\U00100000b") == r"a\U00100000b"
    assert style.shown("Lüfter Ω µ") == "Lüfter Ω µ"


def test_matplotlibs_settings_neither_change_nor_show() -> None:
    """A dark style of the user's notebook changes nothing, neither when the figure is made nor when it is saved."""
    some = [named("fan")[name] for name in ("abnormal_map", "heat_map", "seeds", "roc")]
    plain = [drawn(draw()) for draw in some]
    dark = {"figure.facecolor": "k", "savefig.facecolor": "k", "axes.facecolor": "k", "text.color": "w"}
    dark |= {
        "xtick.color": "w",
        "ytick.color": "w",
        "axes.labelcolor": "w",
        "font.size": 20,
        "lines.linewidth": 9,
    }
    with matplotlib.rc_context(dark):
        before = dict(matplotlib.rcParams)
        assert [drawn(draw()) for draw in some] == plain
        assert dict(matplotlib.rcParams) == before


def test_a_notebook_shows_a_figure() -> None:
    figure = figures.omegas({"fan": (0.5, 0.4, 0.6)})
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert drawn(pickle.loads(pickle.dumps(figure))) == drawn(figure)


class TestSounds:
    def test_a_map_shows_its_values_where_they_are(self, rng: np.random.Generator) -> None:
        values = rng.random((8, 6))
        figure = figures.abnormal_map(FRAMES, EDGES, values)
        (mesh,) = [c for c in figure.axes[0].collections if isinstance(c, QuadMesh)]
        np.testing.assert_array_equal(mesh.get_array(), values)
        corners = mesh.get_coordinates()
        np.testing.assert_allclose(corners[0, :, 0], FRAMES)
        np.testing.assert_allclose(corners[:, 0, 1], EDGES)
        assert mesh.norm.vmin == 0  # white is nothing
        assert mesh.norm.vmax == values.max()

    def test_a_map_with_both_signs_has_white_at_zero(self) -> None:
        values = np.array([[-1.0, 0.0, 3.0]])
        (mesh,) = figures.abnormal_map([0, 1, 2, 3], [100, 200], values).axes[0].collections
        np.testing.assert_allclose(mesh.to_rgba(np.array([0.0]))[0, :3], 0.97, atol=0.02)
        assert (mesh.norm.vmin, mesh.norm.vmax) == (-3, 3)

    def test_a_map_of_zeros_is_white(self) -> None:
        (mesh,) = figures.abnormal_map([0, 1], [100, 200], [[0.0]]).axes[0].collections
        np.testing.assert_allclose(mesh.to_rgba(mesh.get_array()).ravel()[:3], 1, atol=0.08)

    def test_frequencies_from_zero_are_cut_off(self) -> None:
        figure = figures.abnormal_map([0, 1], np.linspace(0, 8000, 5), np.ones((4, 1)))
        assert drawn(figure)
        assert figure.axes[0].get_ylim() == (20, 8000)

    def test_spectra_are_those_that_were_given(self) -> None:
        figure = figures.spectra(EDGES, LEVELS + 9, NORMAL, abnormal=[(100, 200), (500, 900)])
        axes = figure.axes[0]
        np.testing.assert_array_equal(steps(axes, "this clip").get_data().values, LEVELS + 9)
        np.testing.assert_array_equal(steps(axes, "normal clips: median").get_data().values, LEVELS)
        between = steps(axes, "normal clips: 5 to 95 %").get_data()
        np.testing.assert_array_equal(between.values, NORMAL[2])
        np.testing.assert_array_equal(between.baseline, NORMAL[0])
        np.testing.assert_array_equal(between.edges, EDGES)
        assert key(figure).count("abnormal") == 1

    def test_five_quantiles_are_two_ranges(self) -> None:
        five = np.stack([LEVELS + x for x in (-5, -3, 0, 3, 5)])
        figure = figures.spectra(EDGES, LEVELS, five, quantiles=(0.01, 0.05, 0.5, 0.95, 0.99))
        wide = steps(figure.axes[0], "normal clips: 1 to 99 %").get_data()
        np.testing.assert_array_equal([wide.baseline, wide.values], five[[0, 4]])
        narrow = steps(figure.axes[0], "normal clips: 5 to 95 %").get_data()
        np.testing.assert_array_equal([narrow.baseline, narrow.values], five[[1, 3]])

    def test_peaks_are_on_the_line(self) -> None:
        figure = figures.envelope_spectrum(
            [10, 20, 30], [0, 5, 1], normal=[[0, 1, 0], [1, 0, 0]], peaks=[20, 25]
        )
        axes = figure.axes[0]
        np.testing.assert_array_equal(np.hstack(lines(axes, "_peak")), [[20, 25], [5, 3]])
        np.testing.assert_array_equal(lines(axes, "this clip")[0], [[10, 20, 30], [0, 5, 1]])
        assert key(figure) == ["normal clips", "this clip"]

    @pytest.mark.parametrize("figure_of", [figures.levels, figures.coherence])
    def test_no_line_is_lost_however_many_there_are(self, figure_of: Callable[..., Figure]) -> None:
        many = {f"clip {n}": [0.1, 0.2] for n in range(70)}
        figure = figure_of([100, 200], many)
        assert {line.get_label() for line in figure.axes[0].lines} >= set(many)

    def test_levels_may_have_gaps_and_dates(self) -> None:
        times = np.array(["2026-03-01T10:00", "2026-03-01T11:00", "2026-03-02T10:00"], dtype="datetime64[s]")
        figure = figures.levels(times, {"near": [-30, np.nan, -31]})
        assert drawn(figure)
        assert figure.axes[0].get_xlabel() == "date and time"
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [-30, np.nan, -31])

    def test_spectra_by_domain_are_quantiles_of_the_clips(self, rng: np.random.Generator) -> None:
        clips = rng.normal(-40, 3, (21, 8))
        axes = figures.spectra_by_domain(EDGES, {"source": clips, "target": clips[:1]}).axes[0]
        middle = steps(axes, "source (21 clips)").get_data().values
        np.testing.assert_allclose(middle, np.sort(clips, axis=0)[10])
        np.testing.assert_allclose(steps(axes, "target (1 clip)").get_data().values, clips[0])
        (band,) = [p for p in axes.patches if isinstance(p, StepPatch) and p.get_data().baseline is not None]
        np.testing.assert_allclose(band.get_data().baseline, np.sort(clips, axis=0)[1])
        np.testing.assert_allclose(band.get_data().values, np.sort(clips, axis=0)[19])


class TestScores:
    def test_every_clip_is_a_point_in_its_row(self, rng: np.random.Generator) -> None:
        score, label = rng.gamma(2, 1, 40), rng.choice(["normal", "anomaly"], 40)
        domain, references = rng.choice(["source", "target"], 40), rng.gamma(2, 1, 15)
        figure = figures.score_distributions(
            score, list(label), list(domain), references=references, threshold=2.0
        )
        axes = figure.axes[0]
        of_rows = [("source", "normal"), ("source", "anomaly"), ("target", "normal"), ("target", "anomaly")]
        assert rows(axes) == ["training clips, unseen", *(", ".join(row) for row in of_rows)]
        points = lines(axes, "_clips")
        expected = [references, *(score[(domain == d) & (label == n)] for d, n in of_rows)]
        for place, (x, values) in enumerate(zip(points, expected, strict=True)):
            np.testing.assert_allclose(x[0], np.sort(values))
            assert (np.abs(x[1] - place) < 0.4).all()
        above = [f"{int((values > 2).sum())} of {len(values)} above" for values in expected]
        assert texts(axes) == [*above, "threshold 2"]
        np.testing.assert_allclose(
            [line[0, 0] for line in lines(axes, "_median")], [np.median(v) for v in expected]
        )

    def test_what_is_not_known_is_said(self) -> None:
        labels = ["normal", None, float("nan")]
        axes = figures.score_distributions([1.0, 2.0, 3.0], labels, ["source", None, None]).axes[0]  # type: ignore[list-item]
        assert rows(axes) == ["source, normal", "label not known"]
        assert rows(figures.score_distributions([1.0]).axes[0]) == ["label not known"]

    def test_a_threshold_may_be_known_only_between_two_scores(self) -> None:
        axes = figures.score_distributions([1.0, 2.0, 3.0], threshold=(2.0, 3.0)).axes[0]
        assert texts(axes) == ["1 of 3 above", "threshold between 2 and 3"]
        assert len(lines(axes, "_threshold")) == 0
        (span,) = [p for p in axes.patches if p.get_label() == "_threshold"]
        np.testing.assert_allclose(
            span.get_extents().transformed(axes.transData.inverted()).intervalx, [2, 3]
        )

    def test_a_logarithmic_axis_has_labels(self) -> None:
        for scores in ([1.0, 1.3], [0.01, 500.0], [2.0]):
            figure = figures.score_distributions(scores, threshold=1.1, logarithmic=True)
            assert drawn(figure)
            shown = [text.get_text() for text in figure.axes[0].get_xticklabels()]
            assert len(shown) >= 2
            assert all(float(text) > 0 for text in shown)

    def test_roc_curves_are_the_official_ones(self, rng: np.random.Generator) -> None:
        anomalous, domain = np.arange(30) % 2 == 0, np.repeat(["source", "target"], 15)
        score = rng.normal(size=30) + anomalous
        figure = figures.roc(anomalous, score, list(domain))
        known = curves(anomalous, score, list(domain))
        shown = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
        for line, curve in zip(shown, known, strict=True):
            np.testing.assert_array_equal(line.get_data(), [curve.false_alarms, curve.hits])
        target = anomalous | (domain == "target")
        assert f"target: AUC {100 * auc(anomalous[target], score[target]):.1f} %" in key(figure)[1]
        assert f"pAUC {100 * pauc(anomalous, score):.1f} %" in key(figure)[2]
        area = figure.axes[0].collections[0].get_paths()[0]
        x, y = known[-1].partial
        assert all(area.vertices[:, 0] <= 0.1)
        assert {*zip(x, y, strict=True)} <= {*map(tuple, area.vertices)}

    def test_embeddings_are_grouped(self) -> None:
        figure = figures.embeddings([[0, 1], [2, 3], [4, 5]], ["test", "training", "test"])
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_data(), [[0, 4], [1, 5]])
        assert key(figure) == ["test (2)", "training (1)"]


class TestExperiments:
    def test_a_heat_map_shows_percent_that_can_be_read(self) -> None:
        values = np.array([[0.4, 0.7, 1.0], [0.55, 0.85, np.nan]])
        axes = figures.heat_map(values, ["fan", "pump"], ["a", "b", "c"]).axes[0]
        assert texts(axes) == ["40.0", "70.0", "100.0", "55.0", "85.0", "-"]
        for text, value in zip(axes.texts, values.ravel(), strict=True):
            behind = axes.images[0].to_rgba(np.ma.masked_invalid([[value]]))[0, 0, :3]
            assert contrast(matplotlib.colors.to_rgb(text.get_color()), behind) > 4.5

    @pytest.mark.parametrize("value", np.linspace(0.4, 1, 13).tolist())
    def test_text_has_contrast_on_every_colour(self, value: float) -> None:
        axes = figures.heat_map([[value]], ["fan"], ["a"]).axes[0]
        behind = axes.images[0].to_rgba(np.array([[value]]))[0, 0, :3]
        assert contrast(matplotlib.colors.to_rgb(axes.texts[0].get_color()), behind) > 4.5

    def test_rates_have_their_exact_interval(self) -> None:
        figure = figures.false_alarm_rates(
            ["fan", "fan", "pump"], [0.05, 0.05, np.nan], [1, 0, 2.5], [20, 10, 12]
        )
        axes = figure.axes[0]
        for line, (k, m) in zip(lines(axes, "_interval"), [(1, 20), (0, 10), (2, 12)], strict=True):
            np.testing.assert_allclose(line[0], 100 * np.array(FlaggedShare(k, m).interval()))
        np.testing.assert_allclose([x[0, 0] for x in lines(axes, "_got")], [5, 0, 100 * 2.5 / 12])
        np.testing.assert_allclose([x[0, 0] for x in lines(axes, "_asked")], [5, 5, np.nan])
        assert rows(axes) == ["fan", "", "pump"]
        assert texts(axes) == ["1 of 20", "0 of 10", "2.5 of 12"]

    def test_weights_are_bars_that_add_up(self) -> None:
        weights = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
        axes = figures.branch_weights(weights, ["fan", "pump"], ["a", "b", "c"]).axes[0]
        widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers]).T  # type: ignore[attr-defined]
        begins = np.array([[bar.get_x() for bar in bars] for bars in axes.containers]).T  # type: ignore[attr-defined]
        np.testing.assert_allclose(widths, weights)
        np.testing.assert_allclose(begins, np.cumsum(weights, axis=1) - weights, atol=1e-15)

    def test_what_a_branch_adds_is_the_bar_from_all_to_without(self) -> None:
        without, adds = {"near": 0.6, "far": 0.72, "cancelled": np.nan}, {"near": (0.04, 0.15)}
        axes = figures.left_out(0.7, without, adds=adds).axes[0]
        ends = [
            sorted((bar.get_x(), bar.get_x() + bar.get_width())) for bars in axes.containers for bar in bars
        ]  # type: ignore[attr-defined]
        np.testing.assert_allclose(ends, [[60, 70], [70, 72]])
        np.testing.assert_allclose(sorted(lines(axes, "_interval")[0][0]), [55, 66])
        assert rows(axes) == ["without near", "without far", "without cancelled"]

    def test_seeds_have_mean_and_deviation(self) -> None:
        values = [0.5, 0.6, 0.64]
        axes = figures.seeds({"a": values, "b": [0.7]}).axes[0]
        np.testing.assert_allclose(lines(axes, "_seeds")[0][0], 100 * np.array(values))
        mean, deviation = 100 * np.mean(values), 100 * np.std(values, ddof=1)
        np.testing.assert_allclose(lines(axes, "_deviation")[0][0], [mean - deviation, mean + deviation])
        assert len(lines(axes, "_deviation")) == 1  # one seed has none
        assert texts(axes) == [f"{mean:.2f} ± {deviation:.2f}", "70.00"]

    def test_a_difference_has_its_interval_and_sign(self) -> None:
        axes = figures.comparison(
            ["a", "b", "all"], [0.1, -0.1, 0], [0.05, -0.2, -0.1], [0.2, -0.05, 0.1]
        ).axes[0]
        np.testing.assert_allclose([x[0] for x in lines(axes, "_interval")], [[5, 20], [-20, -5], [-10, 10]])
        filled = [line.get_mfc() for line in axes.lines if line.get_label() == "_difference"]
        assert filled == [style.BLUE, style.ANOMALY, "white"]
        assert axes.get_xlabel() == "B - A (percentage points)"


def contrast(a: tuple[float, float, float], b: NDArray[np.float64]) -> float:
    """Of two colours, after WCAG 2.2."""

    def luminance(colour: Any) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


REFUSED = [
    (lambda: figures.abnormal_map([0, 1], [100, 200], [[1.0, 2.0]]), r"values: has the shape \(1, 2\); must be"),
    (lambda: figures.abnormal_map([0, 1], [100, 200], [[np.nan]]), "values: 1 of 1 values are not finite"),
    (lambda: figures.abnormal_map([1, 0], [100, 200], [[1]]), "times: must ascend"),
    (lambda: figures.abnormal_map([], [], np.empty((0, 0))), "times: has 0 values; must have at least 2"),
    (lambda: figures.abnormal_map([0, 1], [0.1, 0.2], [[1]]), "frequencies: end at 0.2; must be in Hz"),
    (lambda: figures.spectra(EDGES, LEVELS[:-1], NORMAL), "clip: has 7 values; must have 8, as the bands"),
    (lambda: figures.spectra(EDGES, LEVELS, NORMAL[:2]), r"normal: has the shape \(2, 8\); must be \(3, 8\)"),
    (lambda: figures.spectra(EDGES, LEVELS, NORMAL[:2], quantiles=(0.1, 0.9)), "must be an odd number of values"),
    (lambda: figures.spectra(EDGES, LEVELS, NORMAL, quantiles=(5, 50, 95)), r"odd number of values in \[0, 1"),
    (lambda: figures.spectra(EDGES, LEVELS, NORMAL, abnormal=[(300, 200)]), "abnormal: .* low below high"),
    (lambda: figures.envelope_spectrum([1, 2], [0, 0], peaks=[3]), "peaks: 3 Hz; must be between 1 and 2 Hz"),
    (lambda: figures.envelope_spectrum([1, 2], [0, 0], normal=[[1, 2, 3]]), "normal: has the shape"),
    (lambda: figures.levels([0, 1], {}), "of: empty; must name one or more"),
    (lambda: figures.levels([0, 1], {"near": [1]}), r"of\['near'\]: has the shape \(1,\); must be \(2,\)"),
    (lambda: figures.levels([0, 1], {"near": [np.nan, np.nan]}), "no finite value"),
    (lambda: figures.coherence([1, 2], {"a": [0.5, 1.5]}), r"of\['a'\]: from 0.5 to 1.5; must lie in \[0, 1\]"),
    (lambda: figures.spectra_by_domain(EDGES, {"a": np.empty((0, 8))}), r"of\['a'\]: has the shape \(0, 8\)"),
    (lambda: figures.score_distributions([]), "score: has 0 values; must have at least 1"),
    (lambda: figures.score_distributions([1.0, np.inf]), "score: 1 of 2 values are not finite"),
    (lambda: figures.score_distributions(["a"]), "score: not an array of numbers"),
    (lambda: figures.score_distributions([1.0], ["faulty"]), "label: 'faulty'; must be 'normal'"),
    (lambda: figures.score_distributions([1.0], ["normal", "normal"]), "label: 2 for 1 scores"),
    (lambda: figures.score_distributions([1.0], threshold=np.nan), "threshold=nan: must be finite"),
    (lambda: figures.score_distributions([1.0], threshold=(2.0, 1.0)), "two finite values that ascend"),
    (lambda: figures.score_distributions([0.0], logarithmic=True), "logarithmic=True: there is a score of 0"),
    (lambda: figures.roc([False, False], [1.0, 2.0]), "all 2 are of one class"),
    (lambda: figures.embeddings([[0, 1, 2]], ["a"]), r"points: has the shape \(1, 3\); must be \(n, 2\)"),
    (lambda: figures.embeddings([[0, 1]], "a"), "group: a text; must be a list of 1 names"),
    (lambda: figures.heat_map([[90.0]], ["fan"], ["AUC"]), "values: must be fractions"),
    (lambda: figures.heat_map([[0.9]], ["fan", "pump"], ["AUC"]), r"values: .* must be \(2, 1\)"),
    (lambda: figures.heat_map([[0.9]], ["fan"], ["AUC"], limits=(1, 1)), "limits=.* must ascend"),
    (lambda: figures.false_alarm_rates(["fan"], 0.05, [3], [2]), "flagged=3 of clips=2"),
    (lambda: figures.false_alarm_rates(["fan"], [0.05, 0.1], [1], [2]), r"asked: has the shape \(2,\)"),
    (lambda: figures.false_alarm_rates([], 0.05, [], []), "flagged: has 0 values"),
    (lambda: figures.branch_weights([[0.5, 0.6]], ["fan"], ["a", "b"]), "the sum of each row must be 1"),
    (lambda: figures.left_out(0.5, {}), "without: empty"),
    (lambda: figures.left_out(0.5, {"a": np.nan}), "without: empty, or all unknown"),
    (lambda: figures.left_out(0.5, {"a": 0.4}, adds={"a": (0.2, 0.1)}), "adds: .* low not above high"),
    (lambda: figures.left_out(70, {"a": 60}), "must be fractions in"),
    (lambda: figures.seeds({}), "of: empty"),
    (lambda: figures.seeds({"a": []}), r"of\['a'\]: has 0 values"),
    (lambda: figures.comparison(["fan"], [0.1], [0.2], [0.1]), "low: above high"),
    (lambda: figures.comparison(["fan"], [0.1, 0.2], [0.2], [0.1]), "difference: has 2 values; must have 1"),
    (lambda: figures.omegas({"a": (0.5, 0.4)}), r"of\['a'\]: has 2 values; must have 3"),  # type: ignore[dict-item]
]  # fmt: skip


@pytest.mark.parametrize(("draw", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()


def test_an_unknown_figure_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pie'"):
        _ = figures.pie
    assert {*figures.__all__} <= {*dir(figures)}
