"""The base class of the back ends: what it checks for all of them."""

import numpy as np
import pytest

from nearfar.backends import BACKENDS, backend_class
from nearfar.backends.normal_model import NormalClips, NormalModel, RowModel

DOMAIN = np.array(["target", "source", "target", "source", "source"])
ATTRIBUTES = np.array(["a", "b", "c", "d", "e"])
X = np.arange(10.0).reshape(5, 2)

ROW_MODELS = [name for name in BACKENDS if issubclass(backend_class(name), RowModel)]


@pytest.mark.parametrize("name", BACKENDS)
def test_every_back_end_derives_from_it_and_writes_no_fit_of_its_own(name):
    cls = backend_class(name)
    assert issubclass(cls, NormalModel)
    assert cls.fit is NormalModel.fit
    assert cls.anomaly_score is NormalModel.anomaly_score


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("domain", "attributes"), [(DOMAIN[:3], None), (DOMAIN, ATTRIBUTES[:3])], ids=["domain", "attributes"]
)
def test_arrays_of_different_length_are_an_error(name, domain, attributes):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: .*\b3\b"):
        backend_class(name)().fit(X, domain, attributes)


@pytest.mark.parametrize("name", ROW_MODELS)
def test_rows_of_no_clips_are_an_error(name):
    with pytest.raises(ValueError, match="X has no clips; a fit needs at least one"):
        backend_class(name)().fit([], np.array([], dtype=str))


def test_lists_of_text_are_taken():
    from_lists = backend_class("per_domain_normalized")().fit(X, list(DOMAIN), list(ATTRIBUTES))
    from_arrays = backend_class("per_domain_normalized")().fit(X, DOMAIN, ATTRIBUTES)
    np.testing.assert_array_equal(from_lists.anomaly_score(X + 1), from_arrays.anomaly_score(X + 1))


class TestNormalClips:
    def test_counts_are_in_the_order_of_the_names(self):
        clips = NormalClips(X, DOMAIN)
        assert list(clips.counts.items()) == [("source", 3), ("target", 2)]
        assert clips.domain_number.tolist() == [1, 0, 1, 0, 0]
        assert len(clips) == 5

    @pytest.mark.parametrize("as_list", [False, True], ids=["array", "list"])
    def test_a_selection_keeps_the_three_together(self, as_list):
        clips = NormalClips(list(X) if as_list else X, DOMAIN, ATTRIBUTES)
        for some in (clips.of_domain("source"), clips.select(np.array([1, 3, 4]))):
            np.testing.assert_array_equal(some.X, X[[1, 3, 4]])
            assert isinstance(some.X, list) is as_list
            assert some.domain.tolist() == ["source"] * 3
            assert some.attributes.tolist() == ["b", "d", "e"]

    def test_a_selection_without_attributes_has_none(self):
        assert NormalClips(X, DOMAIN).of_domain("target").attributes is None
