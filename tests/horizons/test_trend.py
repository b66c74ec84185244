"""METR's published trends to the digit, and error rates of the interval, the elbow and the comparison of shapes."""

import csv
import math
from datetime import date

import numpy as np
import pytest

from instar.horizons import elbow as bends
from instar.horizons.shapes import compare, fitted
from instar.horizons.tables import read_table, shipped
from instar.horizons.trend import Series, doubling, doubling_of_draws, line, state_of_the_art


def rows_in(name):
    with shipped(name).open() as file:
        return list(csv.DictReader(file))


PUBLISHED = rows_in("published_trends.csv")
VINTAGES = ["th1.0_2026-01", "th1.1_2026-01-29", "th1.1_2026-03", "th1.1_2026-05-08"]


def rng(seed=0):
    return np.random.default_rng(seed)


def series(at, log2, error=0.0):
    at, value = np.asarray(at, dtype=float), 2.0 ** np.asarray(log2, dtype=float)
    factor = math.exp(1.96 * error)
    low, high = (value / factor, value * factor) if error else (np.full(at.size, np.nan),) * 2
    return Series(tuple(f"m{i}" for i in range(at.size)), at, value, low, high)


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row["status"].startswith("must_reproduce")],
                         ids=lambda row: f"{row['vintage']} {row['window_start']}")  # fmt: skip
def test_published_doubling_times_reproduce(row):
    window = read_table(None, row["vintage"]).series("p50", since=date.fromisoformat(row["window_start"]))
    found = doubling(window, rng())
    digits = 0.1 if row["vintage"].startswith("th1.0") else 0.01
    assert not row["n_sota"] or len(window) == int(row["n_sota"])
    assert found.value == pytest.approx(float(row["doubling_days_published"]), abs=digits)
    assert found.low < found.value < found.high
    if row["ci_low"]:  # METR's interval, from runs that we don't have, is about ours
        assert found.low == pytest.approx(float(row["ci_low"]), rel=0.1)
        assert found.high == pytest.approx(float(row["ci_high"]), rel=0.1)


def test_there_is_something_to_reproduce():
    assert sum(row["status"].startswith("must_reproduce") for row in PUBLISHED) == 7


@pytest.mark.parametrize(
    ("since", "within", "all_of_them"), [("2019-01-01", 187.778, 182.66), ("2023-01-01", 128.744, 124.77)]
)
def test_models_above_sixteen_hours_are_left_out_as_published(since, within, all_of_them):
    for reliable, published, digits in ((None, within, 0.001), (math.inf, all_of_them, 0.005)):
        table = read_table(None, "th1.1_2026-05-08", reliable=reliable)
        found = doubling(table.series("p50", since=date.fromisoformat(since)), rng())
        assert found.value == pytest.approx(published, abs=digits)
        assert any("claude_mythos_preview_early_inspect" in note for note in table.notes) is (reliable is None)


@pytest.mark.parametrize("vintage", VINTAGES)
def test_state_of_the_art_is_as_published(vintage):
    rows = [row for row in rows_in("published_horizons.csv") if row["vintage"] == vintage]
    days = np.array([date.fromisoformat(row["release_date"]).toordinal() for row in rows], dtype=float)
    found = state_of_the_art(days, np.array([float(row["p50_min"]) for row in rows]))
    assert found.tolist() == [row["is_sota"] == "1" for row in rows]
    assert not [note for note in read_table(None, vintage).notes if "is_sota" in note]


def test_the_interval_of_the_doubling_time_covers():
    truth, hits = 200.0, {0.0: [], 0.4: []}
    for seed in range(200):
        draws = rng(seed)
        at = np.sort(draws.uniform(0, 1200, 14))
        for error, inside in hits.items():
            noise = draws.normal(0, math.hypot(error, 0.25), 14) / math.log(2)
            found = doubling(series(at, at / truth + noise, error), draws, draws=400)
            inside.append((found.low or 0) <= truth <= (found.high or np.inf))
    print({error: float(np.mean(inside)) for error, inside in hits.items()})
    assert all(0.91 <= np.mean(inside) <= 0.99 for inside in hits.values())


def test_wider_horizons_make_a_wider_interval():
    at = np.linspace(0, 1000, 10)
    plain, unsure = (doubling(series(at, at / 200 + 0.3 * np.sin(at), error), rng()) for error in (0.0, 0.8))
    assert plain.value == unsure.value
    assert unsure.high - unsure.low > 2 * (plain.high - plain.low)


def test_no_growth_is_said():
    at = np.linspace(0, 1000, 6)
    assert doubling(series(at, -at / 200), rng()).note == "the horizons do not grow"
    flat = doubling(series(at, np.array([0, 1, -1, 1, -1, 1.5])), rng())
    assert (flat.high, flat.note) == (None, "no growth is not excluded")
    two = doubling(series([0, 100], [0, 1]), rng())
    assert (two.value, two.low, two.n) == (pytest.approx(100), None, 2)
    with pytest.raises(ValueError, match="two models"):
        line(series([3, 3], [0, 1]))


def test_shared_errors_move_the_slope_little():
    at = np.array([0.0, 100, 200, 300])
    shared = at / 100 + rng().normal(0, 1, (500, 1))
    keep = np.array([True, True, True, True])
    assert doubling_of_draws(at, shared, keep) == pytest.approx((100.0, 100.0))
    own = at / 100 + rng().normal(0, 0.3, (500, 4))
    low, high = doubling_of_draws(at, own, keep)
    assert low < 100 < high
    assert doubling_of_draws(at, np.full((500, 4), np.inf), keep) is None


def test_errors_that_models_share_are_in_the_prediction():
    # All horizons lie on one line, but each is known to a factor of 2 only: so is the next.
    at = np.linspace(0, 1000, 8)
    low, high = line(series(at, at / 200, error=math.log(2) / 1.96)).quantiles([1100.0], [0.025, 0.975])[0]
    assert high / low > 4.0


def test_prediction_intervals_hold_the_next_model():
    inside = []
    for seed in range(400):
        draws = rng(seed)
        at = np.linspace(0, 1000, 11)
        y = at / 200 + draws.normal(0, 0.4, 11)
        low, high = line(series(at[:-1], y[:-1])).quantiles(at[-1:], [0.1, 0.9])[0]
        inside.append(low <= 2.0 ** y[-1] <= high)
    assert 0.75 <= np.mean(inside) <= 0.85


# --- the elbow --------------------------------------------------------------------------------------------------------


def statistic(at, y):
    gains = (y @ bends.hinges(at, bends.candidates(at)).T) ** 2
    design = np.linalg.qr(np.stack([np.ones_like(at), at - at.mean()], axis=1))[0]
    return gains.max(axis=1) / ((y**2).sum(axis=1) - ((y @ design) ** 2).sum(axis=1))


def test_straight_trends_bend_in_at_most_5_percent():
    # 14 models; the trend's slope, height and scatter must not matter, nor how uneven the dates are.
    for seed, slope, scatter in ((1, 0.0, 1.0), (2, 1 / 90, 0.3)):
        draws = rng(seed)
        at = np.sort(draws.uniform(0, 1200, 14))
        limit = np.quantile(bends.null(at, 4999), 1 - bends.LEVEL)
        alarms = statistic(at, slope * at + scatter * draws.standard_normal((4000, 14))) > limit
        print(f"false alarms {alarms.mean():.4f}")
        assert alarms.mean() <= 0.05  # 4 %, and room for the noise of 4,000 trends and of the limit


def test_an_elbow_is_found_where_one_is():
    at = np.linspace(0, 1400, 15)
    y = at / 240 + np.maximum(0, at - 700) / 120 + rng(3).normal(0, 0.15, 15)
    found = bends.elbow(series(at, y), simulations=1999)
    assert found.found is True
    assert found.at.low <= 700 <= found.at.high
    assert found.before == pytest.approx(240, rel=0.25)
    assert found.after == pytest.approx(80, rel=0.25)


def test_choosing_the_state_of_the_art_is_no_elbow():
    # The chosen of a straight trend bend by themselves; where all models are known, that is taken into account.
    plain, taken = [], []
    for seed in range(25):
        draws = rng(seed)
        at = np.sort(draws.uniform(0, 1200, 40))
        pool = series(at, at / 200 + draws.normal(0, 0.8, 40))
        best = state_of_the_art(pool.at, pool.value)
        if best.sum() >= bends.LEAST:
            found = bends.elbow(pool.kept(best), pool, simulations=499, chosen=149)
            plain.append(found.p_plain <= bends.LEVEL)
            taken.append(found.found)
    print(f"chosen models bend: {np.mean(plain):.2f}, and {np.mean(taken):.2f} once the choice is simulated")
    assert np.mean(taken) <= 0.12
    assert (state_of_the_art(pool.at, pool.value) == bends._records(pool.at, np.log(pool.value)[None])[0]).all()
    assert np.mean(plain) > np.mean(taken)


def test_no_elbow_is_an_answer_and_so_is_cant_tell():
    at = np.linspace(0, 1400, 15)
    straight = bends.elbow(series(at, at / 200 + rng(4).normal(0, 0.3, 15)), simulations=999)
    assert straight.found is False
    assert straight.p > 0.05
    assert straight.at.low < straight.at.high
    assert bends.elbow(series(at[:6], at[:6] / 200)).found is None


def test_the_elbows_interval_covers():
    inside = []
    for seed in range(100):
        at = np.linspace(0, 1400, 15)
        y = at / 240 + np.maximum(0, at - 600) / 120 + rng(seed).normal(0, 0.3, 15)
        place = bends.elbow(series(at, y), simulations=49).at
        inside.append(place.low <= 600 <= place.high)
    print(f"coverage of the elbow's place {np.mean(inside):.2f}")
    assert np.mean(inside) >= 0.88


# --- shapes -----------------------------------------------------------------------------------------------------------

TIME = np.linspace(0, 10, 24)
CURVES = {
    "linear": np.log2(3 + 4 * TIME),
    "exponential": TIME,
    "super-exponential": 0.2 * TIME + 0.15 * TIME**2,
    "S-curve": 8 - np.logaddexp(0, -1.8 * (TIME - 6)) / math.log(2),
}


@pytest.mark.parametrize("shape", CURVES)
def test_a_clear_shape_is_named(shape):
    found = compare(series(TIME, CURVES[shape] + rng(8).normal(0, 0.1, 24)))
    assert found.by_fit in (shape, "can't tell") if shape == "exponential" else found.by_fit == shape
    assert found.by_prediction in (shape, "can't tell")
    best = min(found.shapes, key=lambda one: one.aicc)
    errors = {one.name: one.error for one in found.shapes}
    assert best.name == shape
    assert errors[shape] <= 1.25 * min(errors.values())
    assert found.shapes[0].predictions == 12


def test_straight_trends_are_rarely_called_something_else():
    called = [compare(series(TIME[:14], TIME[:14] + rng(seed).normal(0, 0.4, 14))) for seed in range(40)]
    wrong = [c.by_prediction not in ("exponential", "can't tell") for c in called]
    assert np.mean(wrong) <= 0.1
    assert np.mean([c.by_fit not in ("exponential", "can't tell") for c in called]) <= 0.15


def test_few_models_tell_nothing():
    found = compare(series([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5.5]))
    assert (found.by_prediction, found.by_fit) == ("can't tell", "can't tell")


def test_a_fitted_shape_speaks_on_the_series_own_clock():
    days = 739_000 + 100 * TIME
    assert fitted("exponential", series(days, TIME))(np.array([739_500.0]))[0] == pytest.approx(5 * math.log(2))
