"""Amounts and numbers as people read them: in a currency, without exponents, with thousands separated."""

import math
from typing import NamedTuple

_NOISE = 1e-6  # of the smallest amount that can be paid: less is rounding of numbers, and no amount
_DIGITS = 4  # significant digits of a number that is no amount of a currency


class Currency(NamedTuple):
    """How amounts of one currency are written."""

    code: str = ""  # ISO 4217, such as EUR; "": amounts are plain numbers
    symbol: str = ""
    decimals: int = 0  # of its smallest unit

    def exact(self, x: float) -> str:
        """An amount to its smallest unit, such as €1,483.50; a plain number as `number` writes it."""
        return self._with_symbol(x, self.decimals) if self.code else number(x)

    def amount(self, x: float | None, digits: int = _DIGITS) -> str:
        """An amount as it stands in a sentence: without cents from 1,000 on, and if it is whole.

        Args:
          x: the amount; "-" if there is none.
          digits: significant ones, if it is a plain number.
        """
        if not self.code or x is None or math.isnan(x):
            return number(x, digits)
        if abs(x) < _NOISE * self.smallest:
            return self._with_symbol(0.0, 0)
        if abs(x) < 0.5 * self.smallest:
            return self._with_symbol(x, 1 - math.floor(math.log10(abs(x))))
        in_units = round(x, self.decimals)
        whole = abs(in_units) >= 1000 or in_units == round(in_units)
        return self._with_symbol(x, 0 if whole else self.decimals)

    def rate(self, x: float) -> str:
        """An amount per sample: below 1 to three significant digits, as €0.0138, and at least whole cents."""
        if not self.code or abs(x) >= 1 or abs(x) < _NOISE * self.smallest:
            return self.amount(x)
        decimals = max(self.decimals, 2 - math.floor(math.log10(abs(x))))
        while decimals > self.decimals and self._with_symbol(x, decimals).endswith("0"):
            decimals -= 1
        return self._with_symbol(x, decimals)

    @property
    def smallest(self) -> float:
        """The smallest amount that can be paid, such as 0.01."""
        return 10.0**-self.decimals

    def _with_symbol(self, x: float, decimals: int) -> str:
        digits = f"{abs(x):,.{decimals}f}"
        minus = "-" if x < 0 and any(one in "123456789" for one in digits) else ""
        return f"{minus}{self.symbol}{digits}"


PLAIN = Currency()  # plain numbers


def currency(code: str) -> Currency:
    """The currency of a code, such as EUR; "" is that of plain numbers.

    Raises:
      ValueError: there is no such currency.
    """
    if not code:
        return PLAIN
    from babel import numbers  # only when a currency is named

    if not numbers.is_currency(code):
        raise ValueError(f"a currency is a code of three letters such as EUR, USD or CHF, got {code!r}")
    symbol = numbers.get_currency_symbol(code, locale="en_US")
    if symbol.isalpha():  # a code, which needs a space before digits
        symbol += " "
    return Currency(code, symbol, numbers.get_currency_precision(code))


def number(x: float | None, digits: int = _DIGITS) -> str:
    """A number to some significant digits, without an exponent from 0.0001 to 1e15; "-" if there is none."""
    if x is None or math.isnan(x):
        return "-"
    if x == 0:
        return "0"
    if not 1e-4 <= abs(x) < 1e15:
        return f"{x:.{digits}g}"
    rounded = float(f"{x:.{digits}g}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def samples(x: float) -> str:
    """A number of samples as it stands in a sentence or table: whole from 10 on."""
    return f"{x:,.0f}" if abs(x) >= 10 else number(x, 2)
