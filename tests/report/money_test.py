import hypothesis
import hypothesis.strategies as st
import pytest

from fedgame.report import money

EUR = money.currency("EUR")


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (4875.3, "€4,875"),
        (1483.48, "€1,483"),
        (999.99, "€999.99"),
        (999.996, "€1,000"),
        (31.2, "€31.20"),
        (60.0, "€60"),
        (-0.3, "-€0.30"),
        (0.0, "€0"),
        (0.0004, "€0.00040"),  # less than a cent is not nothing
        (-1e6, "-€1,000,000"),
    ],
)
def test_amounts_in_sentences(x, text):
    assert EUR.amount(x) == text


def test_rates_keep_their_digits_and_noise_is_nothing():
    euro = money.currency("EUR")
    assert [euro.rate(x) for x in (0.0138, 0.0062, 0.5, 60.0, 1234.5, 0.0, 1e-17, -0.25)] == [
        "€0.0138", "€0.0062", "€0.50", "€60", "€1,234", "€0", "€0", "-€0.25",
    ]  # fmt: skip
    assert [euro.amount(x) for x in (1e-17, -1e-300, None, float("nan"))] == ["€0", "€0", "-", "-"]
    assert money.PLAIN.rate(0.0138) == "0.0138"
    yen = money.currency("JPY")
    assert [yen.rate(x) for x in (0.9999, 0.5, 0.0138)] == ["¥1", "¥0.5", "¥0.0138"]


def test_exact_amounts_have_all_cents_and_no_minus_before_nothing():
    assert [EUR.exact(x) for x in (-1483.48, 0.0, -0.001)] == ["-€1,483.48", "€0.00", "€0.00"]


def test_currencies_have_their_own_symbols_and_cents():
    assert money.currency("JPY").exact(1234.6) == "¥1,235"
    assert money.currency("CHF").amount(5.5) == "CHF 5.50"
    assert money.currency("KWD").smallest == 0.001
    with pytest.raises(ValueError, match="three letters such as EUR, USD or CHF, got 'EURO'"):
        money.currency("EURO")


def test_plain_numbers_have_no_exponent_where_people_read_them():
    assert [money.number(x) for x in (8.14e4, 0.1234567, 154600, 3.0, 999950, 0.0001)] == [
        "81,400",
        "0.1235",
        "154,600",
        "3",
        "1,000,000",
        "0.0001",
    ]
    assert money.PLAIN.amount(1e-16) == "1e-16"
    assert (money.number(None), money.number(float("nan"))) == ("-", "-")


@hypothesis.given(st.floats(-1e14, 1e14), st.integers(1, 9))
def test_a_number_is_itself_to_its_digits(x, digits):
    assert float(money.number(x, digits).replace(",", "")) == float(f"{x:.{digits}g}")


@hypothesis.given(st.floats(-1e12, 1e12))
def test_an_exact_amount_is_within_half_a_cent(x):
    text = EUR.exact(x).replace("€", "").replace(",", "")
    assert abs(float(text) - x) <= 0.005 + 1e-9 * abs(x)
