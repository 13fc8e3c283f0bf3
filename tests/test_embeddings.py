"""Pooling of tokens, views of the microphones, and embedding of many recordings."""

from __future__ import annotations

import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_encoder import Net, Tiny

from nearfar.embedding import embeddings
from nearfar.embedding.embeddings import (
    POOLINGS,
    VIEWS,
    compute_missing,
    embed,
    embed_each,
    embed_stored,
    origins,
)
from nearfar.embedding.store import Key, Store
from nearfar.encoders import encoder_class
from nearfar.encoders.checkpoints import write
from nearfar.encoders.spectral import Spectral
from nearfar.files import digests
from nearfar.recordings import audio
from nearfar.recordings.clips import DatasetError
from nearfar.recordings.microphones import MicrophoneError, cancelled, listen

few = settings(max_examples=40, deadline=None)
RATE = 16_000
tokens = hnp.array_shapes(min_dims=5, max_dims=5, max_side=3).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=st.integers(-9, 9).map(float))
)


def pooled_by_hand(clip, statistics):
    """Of (blocks, frames, bands, dim): each statistic of every series over time, one after the other."""
    blocks, _, bands, dim = clip.shape
    every = np.ndindex(blocks, bands, dim)
    series = [clip[block, :, band, d].tolist() for block, band, d in every]
    return [statistic(s) for statistic in statistics for s in series]


def mean(series):
    return sum(series) / len(series)


def std(series):
    return (sum((x - mean(series)) ** 2 for x in series) / len(series)) ** 0.5


STATISTICS = {"mean": [mean], "mean_std": [mean, std]}


@pytest.mark.parametrize("pooling", STATISTICS)
@few
@given(clips=tokens)
def test_poolings_are_statistics_over_time(pooling, clips):
    expected = [pooled_by_hand(clip, STATISTICS[pooling]) for clip in clips]
    np.testing.assert_allclose(POOLINGS[pooling](clips), expected, atol=1e-12)


@few
@given(tokens)
def test_shape_mean_std_has_the_means_without_their_own_mean_over_bands(clips):
    n, blocks, _, bands, dim = clips.shape
    means = POOLINGS["mean"](clips).reshape(n, blocks, bands, dim)
    shape = [
        [means[c, b, k, d] - mean(means[c, b, :, d].tolist()) for b, k, d in np.ndindex(blocks, bands, dim)]
        for c in range(n)
    ]
    deviations = POOLINGS["mean_std"](clips)[:, blocks * bands * dim :]
    np.testing.assert_allclose(POOLINGS["shape_mean_std"](clips), np.hstack([shape, deviations]), atol=1e-12)


def test_shape_mean_std_does_not_know_how_loud_a_clip_is(rng):
    levels = rng.standard_normal((1, 1, 9, 8, 1))
    np.testing.assert_allclose(
        POOLINGS["shape_mean_std"](levels + 6.0), POOLINGS["shape_mean_std"](levels), atol=1e-12
    )


@few
@given(tokens)
def test_rows_are_the_tokens_in_order(clips):
    n, blocks, frames, bands, dim = clips.shape
    expected = [[clip[i] for i in np.ndindex(blocks, frames, bands)] for clip in clips]
    assert POOLINGS["rows"](clips).shape == (n, blocks * frames * bands, dim)
    np.testing.assert_array_equal(POOLINGS["rows"](clips), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_keeps_single_precision(pooling, rng):
    assert POOLINGS[pooling](rng.standard_normal((2, 1, 3, 4, 5), np.float32)).dtype == np.float32


# views


def of_waveform(waveform):
    return POOLINGS["mean"](Spectral()(waveform[None]))[0]


CANCELLED_BY_TAPS = ("cancelled_3taps", "cancelled_5taps", "cancelled_4096")
COHERENCE_WEIGHTED = ("coherence_weighted", "coherence_weighted_running")


@pytest.fixture
def samples(rng):
    return rng.standard_normal((2, RATE)).astype(np.float32) / 8


def expected_views(samples):
    near, far, without_noise = (of_waveform(w) for w in (samples[0], samples[1], cancelled(samples)))
    of_taps = {name: of_waveform(listen(samples, name)) for name in CANCELLED_BY_TAPS + COHERENCE_WEIGHTED}
    return {
        **of_taps,
        "near_and_cancelled_3taps": np.r_[near, of_taps["cancelled_3taps"]],
        "near": near,
        "far": far,
        "cancelled": without_noise,
        "near_and_cancelled": np.r_[near, without_noise],
        "near_and_contrast": np.r_[near, near - far],
        "near_and_far": np.r_[near, far],
        "near_twice": np.r_[near, near],
    }


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_combines_its_microphones(samples, view):
    np.testing.assert_array_equal(
        embed(samples, Spectral(), view=view, pooling="mean"), expected_views(samples)[view]
    )


@pytest.mark.parametrize(("view", "channels"), [(v, 1 if v in ("near", "near_twice") else 2) for v in VIEWS])
def test_a_view_says_how_many_channels_it_needs(samples, view, channels):
    assert VIEWS[view].channels == channels
    embed(samples[:channels], Spectral(), view=view, pooling="mean")
    if channels == 2:
        with pytest.raises(MicrophoneError, match="needs 2 channels"):
            embed(samples[:1], Spectral(), view=view, pooling="mean")


def test_rows_of_two_microphones_lie_side_by_side(samples):
    rows = embed(samples, Spectral(n_mels=8), view="near_and_cancelled", pooling="rows")
    assert rows.shape == ((1 + RATE // 512) * 8, 2)


# many recordings


@pytest.fixture
def recordings(tmp_path, rng):
    paths = [tmp_path / f"{i:02d}.wav" for i in range(40)]
    for i, path in enumerate(paths):
        audio.write(path, (rng.standard_normal((2, 4000)) * 0.001 * (1 + i)).clip(-1, 1), RATE)
    return paths


@pytest.fixture
def loads(monkeypatch):
    """Every path that is loaded, in ``paths``; the most recordings that were in memory at once, in ``most``."""
    return Loads(monkeypatch)


class Loads:
    def __init__(self, monkeypatch):
        self.paths, self.alive, self.most, self.seconds = [], weakref.WeakSet(), 0, 0.0
        self.load = audio.load
        monkeypatch.setattr(audio, "load", self)

    def __call__(self, path, rate):
        self.paths.append(path)
        time.sleep(self.seconds)
        loaded = self.load(path, rate)
        samples = Traced(loaded.shape, loaded.dtype)
        samples[:] = loaded
        self.alive.add(samples)
        self.most = max(self.most, len(self.alive))
        return samples


class Traced(np.ndarray):
    """An array that can be counted, and that its views keep alive."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("workers", [1, 3])
def test_recordings_are_embedded_in_order(recordings, workers):
    encoder = Spectral(n_mels=16)
    each = embed_each(recordings, encoder, view="near_and_contrast", pooling="mean_std", workers=workers)
    for path, embedding in zip(recordings, each, strict=True):
        samples, _ = audio.read(path)
        expected = embed(samples, encoder, view="near_and_contrast", pooling="mean_std")
        np.testing.assert_array_equal(embedding, expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_few_recordings_are_in_memory(recordings, loads, workers):
    each = embed_each(recordings, Spectral(), view="cancelled", pooling="mean", workers=workers)
    for done, _ in enumerate(each, start=1):
        assert len(loads.paths) - done <= 2 * workers
    assert loads.paths != []
    assert 1 <= loads.most <= workers + 1


@pytest.mark.parametrize("workers", [1, 3])
def test_all_unusable_recordings_are_told_after_the_others(recordings, workers):
    recordings[5].write_bytes(b"no audio")
    audio.write(recordings[7], np.zeros((2, 10), np.float32), RATE)
    found = []
    each = embed_each(recordings, Spectral(), view="near", pooling="mean", workers=workers)
    with pytest.raises(DatasetError, match=r"(?s)05\.wav: not a readable recording.*07\.wav"):
        found.extend(each)
    assert len(found) == len(recordings) - 2


def test_abandoned_work_ends(recordings, loads):
    """Of three recordings in work, one is done, one runs, and one is not begun any more."""
    loads.seconds = 0.1
    each = embed_each(recordings, Spectral(), view="near", pooling="mean")
    next(each)
    each.close()
    assert len(loads.paths) <= 2


def test_recordings_are_resampled_to_the_encoders_rate(recordings):
    (embedding,) = embed_each(recordings[:1], Spectral(sample_rate=8000), view="near", pooling="mean")
    samples = audio.load(recordings[0], 8000)
    assert samples.shape == (2, 2000)
    expected = embed(samples, Spectral(sample_rate=8000), view="near", pooling="mean")
    np.testing.assert_array_equal(embedding, expected)


def test_a_recording_of_too_low_a_rate_is_named(recordings):
    each = embed_each(recordings[3:4], Spectral(sample_rate=32_000), view="near", pooling="mean")
    with pytest.raises(DatasetError, match=r"03\.wav: recorded at 16000 Hz, but 32000 Hz are needed"):
        next(each)


def test_nothing_to_embed_is_nothing():
    assert list(embed_each([], Spectral(), view="near", pooling="mean", workers=4)) == []


def test_missing_recordings_are_named():
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        list(embed_each([Path("none.wav")], Spectral(), view="near", pooling="mean"))


# the store


class Counting(Spectral):
    """Counts how many waveforms it hears; has two blocks, the second twice the first."""

    blocks = (3, 5)

    def __init__(self):
        super().__init__(n_mels=8)
        self.heard = 0

    def __call__(self, waveforms):
        self.heard += len(waveforms)
        tokens = super().__call__(waveforms)
        return np.concatenate([tokens, 2 * tokens], axis=1)


@pytest.fixture
def kept(tmp_path, rng):
    paths = [tmp_path / f"{i}.wav" for i in range(3)]
    for path in paths:
        audio.write(path, rng.uniform(-0.5, 0.5, (2, 4000)).astype(np.float32), RATE)
    return {digests.digest_file(path): [path] for path in paths}


def stored(kept, encoder, tmp_path, view="near_and_cancelled", pooling="mean_std", weights=None):
    made_by = origins(encoder, "counting", {"n_mels": 8, "device": "cpu"}, weights, view=view)
    return embed_stored(kept, encoder, made_by, Store(tmp_path / "cache"), pooling=pooling)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("pooling", ["mean", "mean_std", "relative_deviation"])
def test_from_the_store_comes_what_would_be_computed(kept, tmp_path, view, pooling):
    for _ in range(2):
        found = stored(kept, Counting(), tmp_path, view, pooling)
        for sha, (path,) in kept.items():
            expected = embed(audio.load(path, RATE), Counting(), view=view, pooling=pooling)
            by_microphone = [found[m][sha] for m in VIEWS[view].microphones]
            np.testing.assert_array_equal(VIEWS[view].combine(*by_microphone), expected)


def test_nothing_is_computed_twice(kept, tmp_path):
    first, second, third = Counting(), Counting(), Counting()
    stored(kept, first, tmp_path, view="near")
    assert first.heard == 3
    stored(kept, second, tmp_path, view="near_and_cancelled")  # near is there
    assert second.heard == 3
    stored(kept, third, tmp_path, view="near_and_cancelled")
    assert third.heard == 0


@pytest.mark.parametrize("change", [{"pooling": "mean"}, {"weights": "other"}])
def test_what_depends_on_something_else_is_computed_again(kept, tmp_path, change):
    stored(kept, Counting(), tmp_path, view="near")
    again = Counting()
    stored(kept, again, tmp_path, view="near", **change)
    assert again.heard == 3


def test_what_was_done_before_an_interruption_is_kept(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "PUT_AT_ONCE", 1)

    class Interrupted(Counting):
        def __call__(self, waveforms):
            if self.heard == 2:
                raise KeyboardInterrupt
            return super().__call__(waveforms)

    with pytest.raises(KeyboardInterrupt):
        stored(kept, Interrupted(), tmp_path, view="near")
    again = Counting()
    stored(kept, again, tmp_path, view="near")
    assert again.heard == 1


def test_all_recordings_that_cannot_be_used_are_told_and_the_others_kept(kept, tmp_path):
    paths = [path for (path,) in kept.values()]
    audio.write(paths[0], np.zeros((2, 10), np.float32), RATE)
    paths[1].write_bytes(b"no sound")
    encoder = Counting()
    with pytest.raises(DatasetError, match=r"(?s)0\.wav.*1\.wav"):
        stored(kept, encoder, tmp_path, view="near")
    assert encoder.heard == 1
    again = Counting()
    with pytest.raises(DatasetError, match=r"(?s)0\.wav.*1\.wav"):
        stored(kept, again, tmp_path, view="near")
    assert again.heard == 0


def test_progress_counts_what_is_there(kept, tmp_path):
    few = dict(list(kept.items())[:2])
    stored(few, Counting(), tmp_path, view="near")
    told = []
    encoder = Counting()
    made_by = origins(encoder, "counting", {"n_mels": 8}, None, view="near")
    embed_stored(
        kept,
        encoder,
        made_by,
        Store(tmp_path / "cache"),
        pooling="mean_std",
        tell=lambda *counts: told.append(counts),
    )
    assert told == [(3, 3)]


def test_only_frozen_encoders_of_one_microphone_are_kept():
    with pytest.raises(
        ValueError, match=r"encoder 'autoencoder': only what frozen encoders of one microphone"
    ):
        origins(encoder_class("autoencoder")(), "autoencoder", {}, None, view="near")


# the store, in one run


class Runs(Tiny):
    """Notes for each run of the network how many recordings it was given, and of which blocks."""

    def __init__(self, **options):
        super().__init__(**options)
        self.runs = []

    def by_block(self, waveforms, blocks):
        self.runs.append((len(waveforms), tuple(blocks)))
        return super().by_block(waveforms, blocks)


@pytest.fixture
def layered(tmp_path):
    """Makes an encoder of blocks 1 and 2, always the same."""
    torch.manual_seed(0)
    write(tmp_path / "tiny.safetensors", Net().state_dict(), configuration={})
    return lambda *blocks: Runs(weights=str(tmp_path / "tiny.safetensors"), blocks=blocks or (2,))


@pytest.fixture
def of_several_lengths(tmp_path, rng):
    """Four recordings of one second and three of two, in turn, by their content."""
    paths = [tmp_path / f"{number}.wav" for number in range(7)]
    for number, path in enumerate(paths):
        samples = rng.uniform(-0.5, 0.5, (2, RATE * (1 + number % 2))).astype(np.float32)
        audio.write(path, samples, RATE)
    return {digests.digest_file(path): [path] for path in paths}


ALL = {"near": [(1, "mean"), (2, "mean"), (1, "mean_std")], "cancelled": [(2, "mean")]}


def compute(kept, encoder, cache, wanted=ALL, **options):
    made_by = {m: o for view in wanted for m, o in origins(encoder, "tiny", {}, "w", view=view).items()}
    compute_missing(kept, encoder, made_by, Store(cache), wanted=wanted, **options)
    return made_by


def test_one_run_gives_all_blocks_and_poolings(kept, layered, tmp_path):
    encoder = layered()
    made_by = compute(kept, encoder, tmp_path / "cache")
    assert sorted(encoder.runs) == sorted([(1, (1, 2)), (1, (2,))] * 3)
    for view, pairs in ALL.items():
        for block, pooling in pairs:
            again = layered(block)
            store, origin = Store(tmp_path / "cache"), {view: made_by[view]}
            found = embed_stored(kept, again, origin, store, pooling=pooling)
            assert again.runs == []
            for sha, (path,) in kept.items():
                expected = embed(audio.load(path, 100), again, view=view, pooling=pooling)
                np.testing.assert_array_equal(found[view][sha], expected)


def test_only_missing_blocks_of_missing_recordings_are_computed(kept, layered, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "LOOKED_UP_AT_ONCE", 2)
    shas = list(kept)
    compute({sha: kept[sha] for sha in shas[:2]}, layered(), tmp_path, {"near": [(1, "mean")]})
    compute({shas[0]: kept[shas[0]]}, layered(), tmp_path, ALL)
    encoder, told = layered(), []
    compute(kept, encoder, tmp_path, ALL, tell=lambda *counts: told.append(counts))
    assert sorted(encoder.runs) == [(1, (1, 2)), (1, (1, 2)), (1, (2,)), (1, (2,))]  # mean_std of 1 is new
    assert told == [(3, 3)]
    encoder = layered()
    compute(kept, encoder, tmp_path, ALL, tell=never)
    compute(kept, encoder, tmp_path, {"near": [(2, "global_mean")]})
    assert encoder.runs == [(1, (2,))] * 3


def never(*_):
    raise AssertionError("something was computed")


@pytest.mark.parametrize("workers", [1, 3])
def test_recordings_of_equal_length_are_computed_together(of_several_lengths, layered, tmp_path, workers):
    one, several = layered(), layered()
    made_by = compute(of_several_lengths, one, tmp_path / "one")
    compute(of_several_lengths, several, tmp_path / "several", batch_size=3, workers=workers)
    assert {count for count, _ in one.runs} == {1}
    assert sorted(several.runs) == sorted([(n, blocks) for n in (3, 1, 3) for blocks in ((1, 2), (2,))])
    for microphone, pairs in ALL.items():
        keys = [Key(sha, *pair) for sha in of_several_lengths for pair in pairs]
        found = [Store(tmp_path / c).get(made_by[microphone], keys) for c in ("one", "several")]
        assert set(found[0]) == set(found[1]) == set(keys)
        for key in keys:
            np.testing.assert_allclose(found[1][key], found[0][key], rtol=0, atol=1e-5)


def test_what_is_missing_of_some_is_not_computed_of_their_whole_batch(of_several_lengths, layered, tmp_path):
    some = dict(list(of_several_lengths.items())[:3])
    compute(some, layered(), tmp_path / "cache", {"near": [(1, "mean")]})
    encoder = layered()
    compute(
        of_several_lengths, encoder, tmp_path / "cache", {"near": [(1, "mean"), (2, "mean")]}, batch_size=9
    )
    assert sorted(encoder.runs) == [(1, (2,)), (2, (1, 2)), (2, (1, 2)), (2, (2,))]


def test_unusable_recordings_do_not_spoil_their_batch(of_several_lengths, layered, tmp_path):
    """One without a header, one that is damaged behind it, one of a single channel, one twice."""
    paths = [path for (path,) in of_several_lengths.values()]
    paths[0].write_bytes(b"no sound")
    whole = paths[2].read_bytes()
    paths[2].write_bytes(whole[: len(whole) // 2])
    audio.write(paths[4], audio.read(paths[4])[0][:1], RATE)
    audio.write(paths[6], np.zeros((2, 10), np.float32), RATE)
    of_several_lengths["0" * 64] = [paths[6], tmp_path / "again.wav"]
    (tmp_path / "again.wav").symlink_to(paths[6])
    encoder = layered()
    told = (
        r"(?s)^6 problems in the data:.*0\.wav: not a readable.*2\.wav: truncated.*4\.wav: .*'cancelled' needs 2"
        r".*6\.wav: 0\.0.* s long.*again\.wav: 0\.0.* s long"
    )
    with pytest.raises(DatasetError, match=told):
        compute(of_several_lengths, encoder, tmp_path / "cache", batch_size=9)
    assert sum(count for count, _ in encoder.runs) == 3 * 2
    again = layered()
    with pytest.raises(DatasetError, match=told):
        compute(of_several_lengths, again, tmp_path / "cache", batch_size=9)
    assert again.runs == []


def test_blocks_that_an_encoder_does_not_give(kept, layered, tmp_path):
    with pytest.raises(ValueError, match=r"blocks=\[3\]: .*tiny\.safetensors has the blocks 1 to 2"):
        compute(kept, layered(), tmp_path, {"near": [(1, "mean"), (3, "mean")]})
    with pytest.raises(ValueError, match=r"blocks=\[4\]: this encoder gives \(3, 5\), and has no choice"):
        compute(kept, Counting(), tmp_path, {"near": [(4, "mean"), (5, "mean")]})


# poolings over time and bands


def test_global_poolings_take_no_notice_of_the_grid(rng):
    tokens = rng.normal(size=(2, 1, 5, 4, 3))
    flat = tokens.reshape(2, 20, 3)
    np.testing.assert_allclose(POOLINGS["global_mean"](tokens), flat.mean(axis=1))
    expected = np.hstack([flat.mean(axis=1), flat.std(axis=1)])
    np.testing.assert_allclose(POOLINGS["global_mean_std"](tokens), expected)


def test_relative_deviation_is_a_weighted_mean_of_each_band(rng):
    tokens = rng.normal(size=(1, 1, 6, 2, 3))
    expected = []
    for band in range(2):
        x = tokens[0, 0, :, band]
        d = [np.sqrt(sum((v - m) ** 2 for v, m in zip(row, x.mean(axis=0), strict=True))) for row in x]
        w = [(1 + each / max(d)) ** 4 for each in d]
        expected += list(sum(weight * row for weight, row in zip(w, x, strict=True)) / sum(w))
    np.testing.assert_allclose(POOLINGS["relative_deviation"](tokens)[0], expected)


def test_relative_deviation_of_what_never_changes_is_its_mean():
    tokens = np.ones((1, 1, 4, 2, 3))
    np.testing.assert_array_equal(POOLINGS["relative_deviation"](tokens), np.ones((1, 6)))
