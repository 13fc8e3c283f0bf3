"""What pages are made of: text, tables, charts, pictures, sounds, and the page around them."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import naive_spectrograms
import numpy as np
import pytest
import soundfile
from markupsafe import Markup
from PIL import Image

from nearfar.evidence.spectrograms import SILENCE, spectrogram
from nearfar.report.pages import charts, page, pictures, sounds, tables
from nearfar.report.pages.charts import Axis, Band, Bar, Line, Mark, Point, Span, Strip
from nearfar.report.pages.text import DASH, MINUS, as_json, file_stem, name_of, number, readable

RATE = 16000
NAMES = (
    "<img src=x onerror=alert(1)>.wav",
    '"><script>alert(1)</script>',
    "</script><script>alert(1)</script>",
    "</title></svg>]]>",
    "L\udcfcfter.wav",
    "fan\u202evaw.exe",
    "{{ 7 * 7 }} {% raw %}",
    "a\nb\tc\x00d",
    "' onload='alert(1)",
)
SVG = "{http://www.w3.org/2000/svg}"


def parsed(chart):
    """The SVG as XML, which browsers ask for nowhere: so all is closed and all is quoted."""
    return ET.fromstring(str(chart.svg))


def texts(chart):
    return [t.text for t in parsed(chart).iter() if t.tag.endswith("text") and t.text]


def points_of(chart, kind):
    return [
        [tuple(map(float, p.split(","))) for p in found.get("points").split()]
        for found in parsed(chart).iter()
        if found.tag.endswith(kind)
    ]


class TestText:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_name_can_be_written_on_one_line(self, name):
        shown = name_of(name)
        shown.encode()
        assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069]", shown)

    def test_nothing_but_what_cannot_be_shown_is_changed(self):
        assert readable("Lüfter \N{ROMAN NUMERAL TWO}, עברית: 3 µm\nnext") == "Lüfter Ⅱ, עברית: 3 µm\nnext"
        assert name_of("a\nb\u200fc") == "a\\x0ab\\u200fc"

    @pytest.mark.parametrize("name", NAMES)
    def test_json_in_a_script_is_the_same_and_cannot_leave_it(self, name):
        written = as_json({"name": name, "rows": np.array([[1.0, np.nan], [np.inf, 2.0]], np.float32)})
        assert "<" not in written
        assert "&" not in written
        assert json.loads(written) == {"name": readable(name), "rows": [[1, None], [None, 2]]}

    def test_numbers_of_json_have_six_digits(self):
        assert as_json([1 / 3, 123456789.0, True, None, np.int64(7)]) == "[0.333333,123457000.0,true,null,7]"

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (0.0, "0"), (1234.5, "1234"), (-0.5, f"{MINUS}0.5"), (99.96, "100"), (2.0, "2"),
            (1e-7, f"1.00e{MINUS}07"), (3.0e9, "3.00e+09"), (float("inf"), "∞"), (-float("inf"), f"{MINUS}∞"),
            (float("nan"), DASH), (None, DASH),
        ],
    )  # fmt: skip
    def test_numbers_as_they_are_read(self, value, shown):
        assert number(value) == shown

    @pytest.mark.parametrize("name", NAMES)
    def test_files_have_names_that_every_system_takes(self, name):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", file_stem(name))


class TestAxis:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0, 10, ["0", "2", "4", "6", "8", "10"]),
            (-0.3, 0.3, [f"{MINUS}0.3", f"{MINUS}0.2", f"{MINUS}0.1", "0.0", "0.1", "0.2", "0.3"]),
            (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (1e9, 5e9, ["1e+09", "2e+09", "3e+09", "4e+09", "5e+09"]),
            (99.0, 99.5, ["99.0", "99.1", "99.2", "99.3", "99.4", "99.5"]),
        ],
    )
    def test_ticks_are_round_and_tell_apart(self, low, high, expected):
        assert [text for _, text in Axis("x", low=low, high=high).ticks()] == expected

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (50, 8000, ["50", "100", "200", "500", "1000", "2000", "5000"]),
            (1, 1e6, ["1", "10", "100", "1000", "10000", "100000", "1000000"]),
            (0.02, 0.9, ["0.02", "0.05", "0.1", "0.2", "0.5"]),
            (1000, 1900, ["1000", "1200", "1400", "1600", "1800"]),
        ],
    )
    def test_ticks_of_a_logarithmic_axis(self, low, high, expected):
        assert [text for _, text in Axis("x", "Hz", "log", low, high).ticks()] == expected

    @pytest.mark.parametrize("scale", ["linear", "log"])
    def test_every_tick_lies_on_the_axis_and_they_are_few(self, scale, rng):
        for _ in range(300):
            low = 10 ** rng.uniform(-4, 5)
            axis = Axis("x", scale=scale, low=low, high=low * 10 ** rng.uniform(0.001, 6))
            shares = axis.share([value for value, _ in axis.ticks()])
            assert (shares >= -1e-9).all()
            assert (shares <= 1 + 1e-9).all()
            assert 2 <= len(shares) <= 13
            assert len({text for _, text in axis.ticks()}) == len(shares)

    def test_a_value_is_where_its_share_is(self):
        for axis in (Axis("x", low=-2, high=6), Axis("x", "", "log", 2, 2000)):
            values = axis.value([0, 0.25, 1])
            np.testing.assert_allclose(axis.share(values), [0, 0.25, 1], atol=1e-12)
        assert np.isnan(Axis("x", "", "log", 1, 10).share([0.0, -1.0, np.nan, np.inf])).all()

    @pytest.mark.parametrize(
        ("axis", "data", "limits"),
        [
            (Axis("x"), [1.0, 3.0, np.nan, np.inf], (1, 3)),
            (Axis("x"), [5.0], (2.5, 7.5)),
            (Axis("x"), [0.0, 0.0], (-1, 1)),
            (Axis("x"), [], (0.5, 1.5)),
            (Axis("x", low=2.0), [], (2, 3)),
            (Axis("x", "", "log"), [0.0, -1.0, 10.0, 1000.0], (10, 1000)),
            (Axis("x", "", "log"), [10.0], (5, 20)),
        ],
    )
    def test_ends_are_those_of_the_data(self, axis, data, limits):
        assert axis.fitted(data).limits == limits

    def test_ends_that_are_none(self):
        with pytest.raises(ValueError, match=r"axis 'Level' from 3 to 1 \(linear\): must ascend"):
            Axis("Level", low=3, high=1).fitted([0, 1])
        with pytest.raises(
            ValueError, match=r"axis 'f' from 0 to 10 \(log\): must ascend, and begin above 0"
        ):
            Axis("f", "Hz", "log", low=0, high=10).fitted()
        with pytest.raises(ValueError, match="axis 'f': has no ends yet; fit it to the data first"):
            Axis("f").ticks()


class TestLineChart:
    X, Y = Axis("Time", "s", low=0, high=10), Axis("Level", "dB", low=0, high=100)

    def test_a_line_goes_through_its_points(self):
        chart = charts.line_chart("Level", [Line("near", [0, 5, 10], [0, 100, 50])], x=self.X, y=self.Y)
        assert points_of(chart, "polyline") == [[(0, 230), (500, 0), (1000, 115)]]

    def test_what_is_no_number_is_a_gap_and_one_point_is_a_dot(self):
        y = [10, 20, np.nan, 30, np.inf, 40, 50]
        chart = charts.line_chart("Level", [Line("near", np.arange(7.0), y)], x=self.X, y=self.Y)
        runs = points_of(chart, "polyline")
        assert [len(run) for run in runs] == [2, 2, 2]
        assert runs[1][0] == runs[1][1]
        assert np.isnan(chart.numbers["rows"][2][1])
        assert json.loads(as_json(chart.numbers["rows"]))[4] == [4, None]

    def test_a_logarithmic_axis(self):
        line = Line("near", [0, 10, 100, 1000], [1, 2, 3, 4])
        chart = charts.line_chart("S", [line], x=Axis("f", "Hz", "log"), y=Axis("L"))
        assert [x for x, _ in points_of(chart, "polyline")[0]] == [0, 500, 1000]

    def test_numbers_ride_along_a_column_each(self):
        line, band = Line("near", [1, 2], [3, 4]), Band("normal", [1, 2], [0, 1], [5, 6])
        chart = charts.line_chart("L", [line], x=self.X, y=self.Y, bands=[band])
        assert chart.numbers["columns"] == ["Time (s)", "near", "normal, low", "normal, high"]
        np.testing.assert_array_equal(chart.numbers["rows"], [[1, 3, 0, 5], [2, 4, 1, 6]])
        assert chart.legend == (("near", "s1", "line"), ("normal", "normal", "area"))

    def test_numbers_of_lines_at_other_places_ride_along_a_row_each(self):
        lines = [Line("near", [1, 2], [3, 4]), Line("far", [1.5], [5])]
        chart = charts.line_chart("L", lines, x=self.X, y=self.Y)
        assert chart.numbers["columns"] == ["line", "Time (s)", "Level (dB)"]
        assert chart.numbers["rows"] == [["near", 1, 3], ["near", 2, 4], ["far", 1.5, 5]]

    def test_of_very_many_points_the_extremes_are_drawn(self, rng):
        y = rng.standard_normal(100_000)
        y[61_234] = 50
        chart = charts.line_chart(
            "L", [Line("near", np.arange(len(y)), y)], x=Axis("t"), y=Axis("L", low=-50, high=100)
        )
        (run,) = points_of(chart, "polyline")
        assert len(run) <= 2 * charts.MOST_PLACES
        assert min(py for _, py in run) == pytest.approx(230 / 3, abs=0.1)
        assert len(chart.numbers["rows"]) == len(y)

    @pytest.mark.parametrize("lines", [[], [Line("near", [], [])], [Line("near", [1.0], [np.nan])]])
    def test_without_data_it_says_so(self, lines):
        chart = charts.line_chart("L", lines, x=Axis("t", "s"), y=Axis("L"))
        assert "no data" in texts(chart)
        assert not chart.has_numbers

    def test_marks_and_spans_stay_on_the_plot(self):
        marks = [Mark("low", 0, 50), Mark("high", 10, 99), Mark("away", 20, 50)]
        spans = [Span("a", -5, 2), Span("b", 8, 50)]
        chart = charts.line_chart(
            "L", [Line("n", [0, 10], [0, 1])], x=self.X, y=self.Y, marks=marks, spans=spans
        )
        places = {t.text: t.get("text-anchor") for t in parsed(chart).iter(f"{SVG}text")}
        assert (places["low"], places["high"]) == ("start", "end")
        assert "away" not in places
        rects = [(float(r.get("x")), float(r.get("width"))) for r in parsed(chart).iter(f"{SVG}rect")]
        assert rects == [(0, 200), (800, 200)]

    def test_the_first_line_lies_on_top(self):
        lines = [Line("near", [0, 1], [0, 0]), Line("far", [0, 1], [100, 100])]
        chart = charts.line_chart("L", lines, x=self.X, y=self.Y)
        assert points_of(chart, "polyline")[-1] == [(0, 230), (100, 230)]
        assert [name for name, _, _ in chart.legend] == ["near", "far"]

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="'near': has 2 places and 3 values"):
            charts.line_chart("L", [Line("near", [1, 2], [1, 2, 3])], x=Axis("t"), y=Axis("L"))


class TestOtherCharts:
    def test_points_lead_to_their_targets_and_groups_have_shapes(self):
        points = [
            Point(0, 0, "source", "a", "clip-0"),
            Point(1, 1, "target", "b"),
            Point(np.nan, 1, "target", "c", "clip-2"),
        ]
        chart = charts.scatter_chart(
            "E", points, x=Axis("1"), y=Axis("2"), groups={"source": "source", "target": "target"}
        )
        links = list(parsed(chart).iter(f"{SVG}a"))
        assert [(link.get("href"), link.get("aria-label")) for link in links] == [("#clip-0", "a (source)")]
        assert [shape for _, _, shape in chart.legend] == ["circle", "square"]
        assert len(chart.numbers["rows"]) == 3

    def test_a_point_of_no_group(self):
        with pytest.raises(ValueError, match="points of the group 'x': must be one of a, b"):
            charts.scatter_chart(
                "E", [Point(0, 0, "x", "")], x=Axis("1"), y=Axis("2"), groups={"a": "s1", "b": "s2"}
            )

    def test_a_strip_has_a_point_for_each_number(self):
        rows = [
            Strip("normal", [1, 2, np.nan], "normal"),
            Strip("anomaly", [3], names=["x"], targets=["clip-1"]),
        ]
        chart = charts.strip_chart("S", rows, x=Axis("score"), threshold=2.5)
        assert len(list(parsed(chart).iter(f"{SVG}circle"))) == 3
        assert [label for label in texts(chart) if label in ("normal", "anomaly")] == ["normal", "anomaly"]
        assert chart.numbers["rows"][3] == ["anomaly", "x", 3.0]
        assert chart.legend == (("threshold", "limit", "line"),)

    def test_a_histogram_counts_each_value_once(self, rng):
        values = rng.standard_normal(200)
        chart = charts.histogram(
            "H", [Strip("normal", [*values, np.nan])], x=Axis("score"), bins=7, threshold=9.0
        )
        rows = np.asarray(chart.numbers["rows"])
        assert rows.shape == (7, 3)
        assert rows[:, 2].sum() == pytest.approx(100)
        inside = (values >= rows[2, 0]) & (values < rows[2, 1])
        assert rows[2, 2] == pytest.approx(100 * inside.mean())
        with pytest.raises(ValueError, match="bins=0: must be at least 1"):
            charts.histogram("H", [], x=Axis("score"), bins=0)

    def test_a_histogram_counts_the_lowest_and_the_highest_value(self, rng):
        for low, high in rng.standard_normal((50, 2)) ** 2 + [0, 10]:
            for scale in ("linear", "log"):
                chart = charts.histogram("H", [Strip("two", [low, high])], x=Axis("score", scale=scale))
                assert np.asarray(chart.numbers["rows"])[[0, -1], 2].tolist() == [50.0, 50.0]

    def test_bars_begin_at_their_reference(self):
        bars = [Bar("up", 0.75, 0.7, 0.8), Bar("down", 0.25), Bar("unknown", float("nan"))]
        chart = charts.bar_chart("B", bars, x=Axis("AUC", low=0.0, high=1.0), reference=0.5)
        places = [(r.get("x"), r.get("width")) for r in parsed(chart).iter(f"{SVG}rect")]
        assert places == [("50%", "25%"), ("25%", "25%")]
        assert "0.75 (0.7 to 0.8)" in texts(chart)
        assert DASH in texts(chart)

    def test_bars_begin_elsewhere_if_told(self):
        chart = charts.bar_chart(
            "B", [Bar("got", 0.75)], x=Axis("rate", low=0.0, high=1.0), reference=0.5, begin=0.0
        )
        (bar,) = parsed(chart).iter(f"{SVG}rect")
        assert (bar.get("x"), bar.get("width")) == ("0%", "75%")

    @pytest.mark.parametrize(
        "chart",
        [
            charts.scatter_chart("E", [], x=Axis("1"), y=Axis("2"), groups={}),
            charts.strip_chart("S", [Strip("a", [])], x=Axis("1")),
            charts.histogram("H", [Strip("a", [np.nan])], x=Axis("1")),
            charts.bar_chart("B", [], x=Axis("1")),
        ],
    )
    def test_without_data_they_say_so(self, chart):
        assert "no data" in texts(chart)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_name_is_text_wherever_it_stands(self, name):
        x, y = Axis(name, name), Axis(name, name)
        made = [
            charts.line_chart(
                name, [Line(name, [1, 2], [1, 2])], x=x, y=y, bands=[Band(name, [1, 2], [0, 1], [2, 3])],
                spans=[Span(name, 1, 2)], marks=[Mark(name, 1, 1)], description=name,
            ),
            charts.scatter_chart(name, [Point(1, 1, name, name, "t")], x=x, y=y, groups={name: "s1"}),
            charts.strip_chart(name, [Strip(name, [1, 2], names=[name, name])], x=x, description=name),
            charts.bar_chart(name, [Bar(name, 1)], x=x, description=name),
            charts.histogram(name, [Strip(name, [1, 2])], x=x),
            charts.line_chart(name, [], x=x, y=y),
        ]  # fmt: skip
        for chart in made:
            tags = {found.tag.removeprefix(SVG) for found in parsed(chart).iter()}
            assert tags <= {"svg", "g", "line", "text", "title", "polyline", "polygon", "rect", "circle", "a"}
            assert not [key for found in parsed(chart).iter() for key in found.attrib if key.startswith("on")]
            assert parsed(chart).get("aria-label").startswith(name_of(name))


class TestPictures:
    def picture(self, values, **changes):
        rows, columns = np.shape(values)
        made = pictures.Picture(
            "level",
            np.asarray(values),
            np.arange(columns + 1.0),
            np.arange(rows + 1.0),
            Axis("t"),
            Axis("f"),
            0,
            1,
            "dB",
        )
        return replace(made, **changes)

    def pixels(self, chart, kind="base"):
        (found,) = [e for e in parsed(chart).iter(f"{SVG}image") if e.get("class") == kind]
        assert found.get("href").startswith("data:image/png;base64,")
        return np.asarray(
            Image.open(io.BytesIO(base64.b64decode(found.get("href").split(",")[1]))).convert("RGBA")
        )

    def test_row_0_is_at_the_bottom_and_a_gap_is_seen_through(self):
        pixels = self.pixels(pictures.image_chart("P", self.picture([[0, 1, 2], [np.nan, 0.5, -1]])))
        rgb, _ = pictures.palette("sequential")
        assert pixels.shape == (2, 3, 4)
        np.testing.assert_array_equal(pixels[1, :, :3], [rgb[0], rgb[254], rgb[254]])
        assert pixels[0, 0, 3] == 0
        np.testing.assert_array_equal(pixels[0, 1:, :3], [rgb[127], rgb[0]])

    def test_cells_lie_where_their_edges_are(self):
        edges = np.array([100.0, 200.0, 1600.0])  # one octave and three
        chart = pictures.image_chart(
            "P", self.picture([[0.0], [1.0]], y_edges=edges, y=Axis("f", "Hz", "log"))
        )
        pixels = self.pixels(chart)
        rgb, _ = pictures.palette("sequential")
        low = (pixels[:, 0, :3] == rgb[0]).all(axis=1)
        assert low.mean() == pytest.approx(1 / 4, abs=0.01)
        assert low[-1]
        assert not low[0]

    def test_beyond_its_edges_there_is_nothing(self):
        chart = pictures.image_chart("P", self.picture([[1.0, 1.0]], x=Axis("t", low=-2, high=4)))
        alpha = self.pixels(chart)[0, :, 3]
        assert alpha.mean() / 255 == pytest.approx(1 / 3, abs=0.02)

    def test_numbers_ride_along_exactly_enough(self, rng):
        values = rng.standard_normal((5, 7))
        values[2, 3] = np.nan
        over = self.picture(np.arange(6.0).reshape(2, 3), name="share", colours="over")
        chart = pictures.image_chart("P", self.picture(values), over=over)
        assert chart.layers == ("share",)
        first, second = json.loads(as_json(chart.numbers))["layers"]
        assert first["name"] == "level (dB)"
        for layer, expected in ((first, values), (second, np.arange(6.0).reshape(2, 3))):
            whole = np.frombuffer(base64.b64decode(layer["cells"]), "<u2").astype(float)
            whole[whole > layer["steps"]] = np.nan
            read = (layer["low"] + (layer["high"] - layer["low"]) * whole / layer["steps"]).reshape(
                expected.shape
            )
            np.testing.assert_allclose(read, expected, atol=np.nanmax(np.ptp(expected[0])) * 1e-4)
        assert not pictures.image_chart("P", self.picture(values), carried="nothing").has_numbers

    def test_without_numbers_it_says_so(self):
        assert "no data" in texts(pictures.image_chart("P", self.picture([[np.nan]])))

    @pytest.mark.parametrize("colours", ["sequential", "grey", "diverging", "over"])
    def test_equal_steps_look_equal(self, colours):
        """Along each palette neighbours differ equally in Oklab; that of levels gets lighter all the way."""
        rgb, _ = pictures.palette(colours)
        lab = pictures._to_oklab(rgb[:255] / 255)
        steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
        blocks = steps[:252].reshape(-1, 12).sum(axis=1)  # one byte is a coarse step
        assert blocks.max() / blocks.min() < 1.25
        if colours == "sequential":
            assert (np.diff(lab[::8, 0]) > 0).all()

    def test_oklab_has_its_published_values(self):
        """White and red of the table in B. Ottosson's article."""
        np.testing.assert_allclose(pictures._to_oklab(np.array([[1.0, 1, 1]])), [[1, 0, 0]], atol=1e-3)
        np.testing.assert_allclose(
            pictures._to_oklab(np.array([[1.0, 0, 0]])), [[0.628, 0.2249, 0.1258]], atol=1e-3
        )

    def test_shapes_and_edges_must_fit(self):
        with pytest.raises(
            ValueError, match=r"'level': values of shape \(1, 2\) between 2 and 2 edges: must be \(1, 1\)"
        ):
            self.picture([[1.0, 2.0]], x_edges=np.arange(2.0))
        with pytest.raises(ValueError, match="'level': edges must ascend"):
            self.picture([[1.0]], x_edges=np.array([1.0, 1.0]))

    def test_limits_are_common_to_all(self):
        assert pictures.limits_of([np.array([-100.0] * 50 + [-60.0] * 50), np.array([np.nan])]) == (-100, -60)
        assert pictures.limits_of([np.array([-50.0])]) == (-80, -50)
        assert pictures.limits_of([]) == (-90, 0)


class TestSpectrogram:
    def test_is_what_its_definition_says(self, rng):
        samples = rng.standard_normal(700).astype(np.float32)
        found = spectrogram(samples, 1000, bands=9)
        expected = naive_spectrograms.spectrogram(samples.tolist(), 1000, 64, found.frequencies.tolist())
        np.testing.assert_allclose(found.levels, expected, atol=1e-3)
        assert found.times[-1] == 0.7
        assert (np.diff(found.times) > 0).all()

    def test_many_frames_are_averaged_so_that_a_click_is_seen(self):
        samples = np.zeros(60 * RATE, np.float32)
        samples[30 * RATE] = 1.0
        found = spectrogram(samples, RATE, columns=100)
        assert found.levels.shape[1] <= 100
        assert found.times[found.levels.max(axis=0).argmax()] == pytest.approx(30, abs=0.7)
        assert found.levels[0, 0] == pytest.approx(SILENCE)

    @pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.064, 0.0961, 10.0])
    def test_any_length_has_edges_that_ascend(self, seconds):
        found = spectrogram(np.ones(max(1, round(seconds * RATE)), np.float32), RATE)
        assert (np.diff(found.times) > 0).all()
        assert found.levels.shape == (96, len(found.times) - 1)

    def test_what_is_no_microphone(self):
        with pytest.raises(ValueError, match=r"samples of shape \(2, 5\): must be one microphone"):
            spectrogram(np.zeros((2, 5), np.float32), RATE)
        with pytest.raises(ValueError, match="rate=100: must be more than 100 Hz"):
            spectrogram(np.zeros(5, np.float32), 100)


class TestSounds:
    def decoded(self, player):
        kind, content = player.source.split(",")
        assert kind in ("data:audio/flac;base64", "data:audio/mpeg;base64")
        return soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float64")

    def test_flac_is_exact_up_to_its_gain(self, rng):
        whole = np.round(rng.standard_normal(RATE) * 20).astype(np.int16)
        (player,) = sounds.players([("near", (whole / 32768).astype(np.float32), RATE)])
        heard, rate = self.decoded(player)
        assert rate == RATE
        assert player.gain_db > 30
        np.testing.assert_array_equal(heard * 32768, whole * 2.0 ** round(player.gain_db / sounds.STEP_DB))

    def test_players_of_one_call_have_one_gain_and_none_is_clipped(self, rng):
        quiet = (0.001 * rng.standard_normal(RATE)).astype(np.float32)
        loud = (0.02 * rng.standard_normal(RATE)).astype(np.float32)
        made = sounds.players([("quiet", quiet, RATE), ("loud", loud, RATE)])
        assert {player.gain_db for player in made} == {sounds.gain_for([quiet, loud])}
        heard = [self.decoded(player)[0] for player in made]
        assert np.std(heard[1]) / np.std(heard[0]) == pytest.approx(20, rel=0.03)
        assert np.abs(heard[1]).max() <= 10 ** (sounds.PEAK / 20)

    def test_a_loud_recording_is_not_changed_but_turned_down(self):
        tone = (0.99 * np.sin(np.arange(RATE))).astype(np.float32)
        (player,) = sounds.players([("near", tone, RATE)])
        assert player.gain_db == 0
        assert 20 * np.log10(player.volume * np.std(tone)) == pytest.approx(sounds.LOUD)

    def test_silence_is_silent(self):
        (player,) = sounds.players([("near", np.zeros(100, np.float32), RATE)])
        assert (player.gain_db, player.volume) == (0, 1)
        assert sounds.gain_for([]) == 0
        assert sounds.gain_for([np.full(9, 1e-9, np.float32)]) <= sounds.MOST_GAIN

    @pytest.mark.parametrize("codec", ["flac", "mp3"])
    @pytest.mark.parametrize("rate", [8000, 16000, 44100, 51200, 96000])
    def test_every_rate_is_played_at_its_pitch_and_length(self, codec, rate):
        if not sounds.available(codec):
            pytest.skip(f"the libsndfile of this system has no {codec}")
        tone = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate)).astype(np.float32)
        (player,) = sounds.players([("near", tone, rate)], codec=codec)
        heard, played = self.decoded(player)
        assert (player.rate, player.recorded_rate, player.seconds) == (played, rate, 2.0)
        assert played <= 48000
        assert len(heard) == pytest.approx(2 * played, abs=2)
        spectrum = np.abs(np.fft.rfft(heard[:played]))
        assert spectrum.argmax() == 1000

    @pytest.mark.parametrize("codec", ["flac", "mp3"])
    def test_the_size_is_known_before(self, codec, rng):
        noise = (0.1 * rng.standard_normal(10 * RATE)).astype(np.float32)
        (player,) = sounds.players([("near", noise, RATE)], codec=codec)
        planned = sounds.encoded_bytes(10, RATE, codec)
        assert 0.85 * planned < len(player.source) < 1.02 * planned

    def test_what_cannot_be_heard(self):
        with pytest.raises(ValueError, match="codec='wav': must be 'flac', or 'mp3'"):
            sounds.players([], codec="wav")
        for samples in (
            np.zeros(0, np.float32),
            np.zeros((2, 5), np.float32),
            np.full(5, np.nan, np.float32),
        ):
            with pytest.raises(
                ValueError, match=r"sound 'near' of shape .*: must be finite samples of one microphone"
            ):
                sounds.players([("near", samples, RATE)])


class TestTables:
    def table(self):
        columns = [
            tables.Column("machine"),
            tables.Column("AUC", "heat", 1, low=0.5, percent=True),
            tables.Column("level", "number", unit="dB"),
        ]
        return tables.Table(
            "T", columns, [[tables.Link("fan", "clip-1"), 0.75, -3.0], ["=1+1", float("nan"), None]]
        )

    def test_cells_as_they_are_read_and_saved(self):
        table = self.table()
        shown = [[c.shown(cell) for c, cell in zip(table.columns, row, strict=True)] for row in table.rows]
        assert shown == [["fan", "75.0 %", f"{MINUS}3 dB"], ["=1+1", DASH, DASH]]
        assert table.numbers == {
            "columns": ["machine", "AUC", "level (dB)"],
            "rows": [["fan", 0.75, -3.0], ["=1+1", None, None]],
        }

    @pytest.mark.parametrize(
        ("value", "heat"), [(0.5, 0), (0.75, 5), (1.0, 10), (2.0, 10), (0.1, 0), (None, None)]
    )
    def test_colours_of_numbers(self, value, heat):
        assert tables.Column("AUC", "heat", low=0.5, high=1.0).heat(value) == heat

    def test_rows_must_be_whole(self):
        with pytest.raises(
            ValueError, match="a row of 1 cells in the table 'T': must be 2, one of each column"
        ):
            tables.Table("T", [tables.Column("a"), tables.Column("b")], [["x"]])


class TestPage:
    def test_its_policy_names_what_is_in_it_and_nothing_else(self):
        html = page._environment().get_template("base.html.j2").render(title="T", command="c", versions={})
        (told,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        assert told.startswith(
            "default-src &#39;none&#39;; img-src data:; media-src data:; style-src &#39;sha256-"
        )
        assert "unsafe" not in told
        style, script = re.findall("<style>(.*?)</style>.*<script>(.*?)</script>", html, re.DOTALL)[0]
        assert page.policy(style, script) == told.replace("&#39;", "'")

    def test_both_places_of_the_dark_colours_say_the_same(self):
        style = (page.HERE / "style.css").read_text()
        asked, chosen = re.findall(
            r":root(?::not\(\[data-theme=\"light\"\]\)|\[data-theme=\"dark\"\]) \{(.*?)\}", style, re.DOTALL
        )
        assert asked.split() == chosen.split()
        light = re.search(r":root \{(.*?)\}", style, re.DOTALL)[1]
        names = lambda text: sorted(re.findall(r"--[\w-]+(?=:)", text))  # noqa: E731
        assert names(light) == names(asked)

    def test_no_template_has_what_the_policy_forbids(self):
        for path in (page.HERE / "templates").glob("*.j2"):
            text = path.read_text()
            assert not re.search(r"\s(style|on\w+)=|https?:|\|\s*safe|autoescape false", text), path.name
        script = (page.HERE / "script.js").read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script
        )

    def test_a_page_is_written_whole_and_nothing_is_replaced_unasked(self, tmp_path):
        path = tmp_path / "new" / "page.html"
        page.write(path, "<p>ä</p>")
        assert path.read_bytes() == "<p>ä</p>".encode()
        with pytest.raises(
            FileExistsError, match=r"page\.html is there already; choose another name, or remove it"
        ):
            page.write(path, "<p>b</p>")
        page.write(path, "<p>b</p>", replace=True)
        assert path.read_text() == "<p>b</p>"
        assert [p.name for p in path.parent.iterdir()] == ["page.html"]

    def test_what_a_template_asks_for_must_be_there(self):
        from jinja2 import UndefinedError

        with pytest.raises(UndefinedError, match="'title' is undefined"):
            page.render("base.html.j2", command="c", versions={})

    @pytest.mark.parametrize("name", NAMES)
    def test_every_text_is_escaped(self, name):
        html = page.render("base.html.j2", title=name, command=name, versions={name: name})
        html.encode()
        inside = html[html.index("<title>") :].replace(str(page._environment().globals["script"]), "")
        inside = inside.replace(str(page._environment().globals["style"]), "")
        assert "<img" not in inside
        assert inside.count("<script>") == 1
        assert not re.search("[\x00\u202e]", inside)

    def test_markup_stays_what_it_is(self):
        assert page.finalize(Markup("<b>")) == "<b>"
        assert page.finalize(3) == 3
