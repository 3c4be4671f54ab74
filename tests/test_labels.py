"""The label names that ship with the package."""

import pytest

from vidprune.labels import LABEL_SETS, label_names


@pytest.mark.parametrize(
    ("label_set", "count", "some"),
    [
        (
            "kinetics400",
            400,
            {0: "abseiling", 6: "arm wrestling", 40: "bungee jumping", 399: "zumba"},
        ),
        (
            "something_something_v2",
            174,
            {
                0: "Approaching something with your camera",
                59: "Pouring something into something",
                134: "Something falling like a feather or paper",
                173: "Wiping something off of something",
            },
        ),
    ],
)
def test_names_by_label(label_set, count, some):
    names = label_names(label_set)
    assert len(names) == len(set(names)) == count
    assert {label: names[label] for label in some} == some
    assert all(name == name.strip() and name for name in names)


def test_all_sets_are_tested_here():
    assert LABEL_SETS == ("kinetics400", "something_something_v2")


def test_kinetics_is_in_alphabetical_order():
    names = label_names("kinetics400")
    assert list(names) == sorted(names)


def test_an_unknown_set_is_refused_by_name():
    with pytest.raises(ValueError, match="label_set is 'k400', but must be one of kinetics400, "):
        label_names("k400")
