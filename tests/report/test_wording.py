import pytest

from instar.report.wording import brief, clock_time, count, duration, interval, number, share


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "open"), (0.5, "0.5"), (0.12345, "0.1235"), (12345.6, "1.235e+04"), (1e-17, "0"), (7, "7"), ("x", "x")],
)
def test_number(value, said):
    assert number(value) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.4, 0.6, "0.5 (0.4 to 0.6)"),
        (0.4, None, "at least 0.4"),
        (None, 0.6, "below 0.6"),
        (None, None, "0.5 (no interval)"),
    ],
)
def test_interval_says_which_end_is_open(low, high, said):
    assert interval({"value": 0.5, "low": low, "high": high}) == said


def test_a_missing_figure_is_not_measured():
    assert interval({}) == "not measured"


def test_durations_shares_and_counts():
    assert [duration(s) for s in (1.24, 41, 180, 9000)] == ["1.2 s", "41 s", "3.0 min", "2.5 h"]
    assert (share(1, 3), share(0, 0)) == ("33.3 %", "none")
    assert (count(1, "trial"), count(2, "trial")) == ("1 trial", "2 trials")


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (7.4, "0:07"), (165, "2:45"), (3765, "1:02:45")])
def test_times(seconds, said):
    assert clock_time(seconds) == said


def test_estimates_in_a_column_have_three_digits():
    assert brief({"value": 24.0, "low": 24.0, "high": None}) == "at least 24"
    assert brief({"value": 1.0, "low": None, "high": 1.0}) == "below 1"
    assert brief({"value": 12.14, "low": 10.8, "high": 13.6}) == "12.1 (10.8 to 13.6)"
    assert brief(None) == "not measured"
