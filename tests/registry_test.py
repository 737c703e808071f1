"""Names: what can be written, the errors for everything else, and files of strangers."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, protocols, registry
from fedgame.games import costs, payoffs, scenarios
from fedgame.mechanisms import base, rules
from fedgame.registry import option, read, register, split, text_of, use


def test_a_spec_is_a_name_with_options_in_order_or_by_name():
    protocol = read("protocol", " fedbr( price(price = 0.004), steps=50 ) ")
    assert type(protocol) is protocols.FedBR
    assert (protocol.steps, protocol.step_size) == (50, None)
    assert protocol.rule.function is rules.price.function
    assert protocol.rule.given == {"price": 0.004}
    assert text_of(protocol) == "fedbr(rule=price(price=0.004), steps=50)"
    for kind, text in (("rule", "price(0.004)"), ("mechanism", "price(price=4e-3)")):
        assert read(kind, text).values == {"price": 0.004}
    assert read("rule", "none").given == read("rule", "none()").given == {}


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ("fedbr_bg", "fedbr(rule=beta_star)"),
        ("fedbr_bg(50)", "fedbr(rule=beta_star, steps=50)"),
        ("fedbr_price(steps=50)", "fedbr(rule=price, steps=50)"),
        ("fedbr", "fedbr"),
        ("fedbr(none)", "fedbr"),
        ("fedbr(none, steps=100, step_size=None)", "fedbr"),
        ("fedbr(step_size=1)", "fedbr(step_size=1.0)"),
        ("fedbr(designed(p=1))", "fedbr(rule=designed)"),
        ("fedbr(designed(p=-inf))", "fedbr(rule=designed(p=-inf))"),
        ("fedbr(personal('equal'))", "fedbr(rule=personal(transfers='equal'))"),
    ],
)
def test_the_same_thing_has_one_text(text, longer):
    assert text_of(read("protocol", text)) == longer


def test_options_that_are_not_given_may_have_other_defaults():
    defaults = {"fedbr": {"steps": 7}, "price": {"price": 0.5}}
    assert text_of(read("protocol", "fedbr_price", defaults)) == "fedbr(rule=price(price=0.5), steps=7)"
    assert text_of(read("protocol", "fedbr(price(0.25), 9)", defaults)) == (
        "fedbr(rule=price(price=0.25), steps=9)"
    )
    assert read("rule", "beta", {"beta": {"beta": 0.25}}).values == {"beta": 0.25}


WRONG = {
    # names
    "prise": r"no rule 'prise'; did you mean 'price'\? \(there are none, .*; others need --use=FILE.py\)",
    "xyzzy": r"no rule 'xyzzy' \(there are",
    "fedavg": r"no rule 'fedavg' \(",
    "'none'": r"a rule is written as a name, or name\(option=…\), got \"'none'\"",
    "1": "a rule is written as a name",
    "None": "a rule is written as a name",
    "": "a name is missing",
    # options
    "price(prise=1)": r"price has no option 'prise'; did you mean 'price'\? \(it has price\)",
    "none(x=1)": r"none has no option 'x' \(it has no options\)",
    "price(1, 2)": "price has no 2 options: it has price",
    "price(1, price=2)": "price: `price` is given twice",
    "price(price=1, price=2)": "price: `price` is given twice",
    "beta": "beta needs `beta`: β, the share of costs that everybody gets back",
    # values
    "beta(2)": "beta: `beta` must be a number, at least 0 and at most 1, got 2",
    "beta([0.5, 2])": "beta: `beta` must be a number, at least 0 and at most 1",
    "beta(-0.5)": "beta: `beta` must be a number, at least 0",
    "price(nan)": "price: `price` must be finite, got nan",
    "price(-inf)": "price: `price` must be finite",
    "price(1e100)": r"price: `price` must be a number below 1e100, got 1e\+100",
    f"price(1{'0' * 400})": "price: `price` must be finite",
    "beta(True)": "beta: `beta` must be a number, got True",
    "beta(None)": "beta: `beta` must be a number, got None",
    "beta([None])": r"a number, text or a list of numbers, got \[None\]",
    "beta(['1'])": r"a number, text or a list of numbers, got \['1'\]",
    "beta([0.1, [0.2]])": "a number, text or a list of numbers",
    "beta([])": r"a number, text or a list of numbers, got \[\]",
    "shapley(seed=1.5)": "shapley: `seed` must be a whole number, got 1.5",
    f"shapley(1{'0' * 30})": "shapley: `seed` must be a whole number",
    "shapley(seed=[1, 2])": "shapley: `seed` must be a whole number",
    "shapley(seed=True)": "shapley: `seed` must be a number, got True",
    "personal('equl')": "must be one of bargaining, equal, p_mean, got 'equl'; did you mean 'equal'",
    "personal(transfers=1)": "personal: `transfers` must be one of bargaining, equal, p_mean, got 1",
    "personal(alone)": "got alone, and text stands in quotes",
    # what is no spec
    "price(": r"'price\(' cannot be read \('\(' was never closed\): write a name, or name\(option=…\)",
    "none none": "cannot be read",
    "none\0": "cannot be read",
    "none; none": "cannot be read",
    f"{'(' * 500}none{')' * 500}": "cannot be read",
    f"price({'-' * 50_000}1)": "cannot be read",
    "os.getpid()": r"a rule is written as a name, or name\(option=…\), got 'os.getpid\(\)'",
    "none.function": "a rule is written as a name",
    "none()()": "a rule is written as a name",
    "none[0]": "a rule is written as a name",
    "[none]": "a rule is written as a name",
    "lambda: none": "a rule is written as a name",
    "price(price=__import__('os').getpid())": r"list of numbers, got __import__\('os'\).getpid\(\)",
    "price(price=(lambda: 1)())": "a number, text or a list of numbers",
    "price(price=f'{1}')": "a number, text or a list of numbers",
    "price(1 / 3)": "a number, text or a list of numbers, got 1 / 3",
    "price(1j)": "a number, text or a list of numbers",
    "price(b'1')": "a number, text or a list of numbers",
    "price(-'1')": "a number, text or a list of numbers",
    "price(-None)": "a number, text or a list of numbers",
    "price([x for x in (1, 2)])": "a number, text or a list of numbers",
    "price({'a': 1})": "a number, text or a list of numbers",
    "price(*[1])": "a number, text or a list of numbers",
    "price(**{'price': 1})": "a rule is written as a name",
    "price(x := 1)": "a number, text or a list of numbers",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda x: ascii(x)[:40])
def test_what_cannot_be_read_is_told_and_nothing_is_evaluated(text, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: pytest.fail("evaluated"))
    with pytest.raises(ValueError, match=WRONG[text]) as caught:
        read("rule", text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("protocol", "fedbr_bgg", r"no protocol 'fedbr_bgg'; did you mean 'fedbr_bg'\?"),
        ("protocol", "fedbr_bg(rule=none)", "fedbr: `rule` is given twice"),
        ("protocol", "fedbr(rule='none')", "a rule is written as a name"),
        ("protocol", "fedbr(None)", "a rule is written as a name"),
        ("protocol", "fedbr(price(prise=1))", r"price has no option 'prise'; did you mean 'price'"),
        ("protocol", "fedbr(steps=50.0)", "fedbr: `steps` must be a whole number, got 50.0"),
        ("protocol", "fedbr(steps=0)", "fedbr: `steps` must be a number, at least 1, got 0"),
        ("protocol", "fedbr(step_size=0)", "fedbr: `step_size` must be a number, greater than 0"),
        ("protocol", "fedbr(*[none])", "a rule is written as a name"),
        ("payoff", "power(1, 1, 1, clip=0)", "power: `clip` must be one of True, False, got 0"),
        ("payoff", "power(1, 1)", "power needs `exponent`: how fast the loss falls"),
        ("cost", "PowerCost(1, 1)", r"no cost 'PowerCost' \(there are linear, power, ordered"),
    ],
)
def test_what_other_kinds_cannot_read_is_told(kind, text, message):
    with pytest.raises(ValueError, match=message):
        read(kind, text)


def test_lists_and_lists_of_lists_are_arrays():
    payoff = read("payoff", "linear([[1.0, 0.2], (-3, 1)])")
    np.testing.assert_array_equal(payoff.w, [[1.0, 0.2], [-3.0, 1.0]])
    assert text_of(payoff) == "linear(w=[[1.0, 0.2], [-3.0, 1.0]])"
    payoff = read("payoff", "power([1, 0.5], 2, exponent=1, clip=False)")
    np.testing.assert_array_equal(payoff.best, [1.0, 0.5])
    assert (payoff.scale, payoff.clip) == (2.0, False)


def test_numbers_may_stand_in_files(tmp_path):
    (tmp_path / "one.csv").write_text("0.1\n0.2\n")
    (tmp_path / "two.csv").write_text("# comment\n1, 2\n3, 4\n")
    np.save(tmp_path / "one.npy", [0.1, 0.2])
    for name in ("one.csv", "one.npy"):
        cost = read("cost", f"linear({str(tmp_path / name)!r})")
        np.testing.assert_array_equal(cost.rate, [0.1, 0.2])
        assert text_of(cost) == "linear(rate=[0.1, 0.2])"
    text = f"linear({str(tmp_path / 'two.csv')!r})"
    np.testing.assert_array_equal(read("payoff", text).w, [[1.0, 2.0], [3.0, 4.0]])
    assert registry.files(f"none, {text}, fedbr(steps=3)") == [str(tmp_path / "two.csv")]


FILES = {
    "words.csv": (b"rate\n1\n", "hold numbers only, separated by commas: could not convert"),
    "ragged.csv": (b"1,2\n3\n", "hold numbers only"),
    "empty.csv": (b"", "hold numbers only, .*empty"),
    "bytes.csv": (b"\xff\xfe", "hold numbers only"),
    "nan.csv": (b"nan\n1\n", "`rate` must be finite"),
    "low.csv": (b"-1\n1\n", "`rate` must be a number, at least 0"),
    "empty.npy": (b"", "hold numbers only"),
    "text.npy": (b"1,2", "hold numbers only"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_without_numbers_are_told(tmp_path, name):
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read("cost", f"linear({str(tmp_path / name)!r})")
    with pytest.raises(FileNotFoundError, match=r"linear: `rate`: there is no file none\.csv"):
        read("cost", "linear('none.csv')")


def test_pickles_are_not_loaded(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="hold numbers only"):
        read("cost", f"linear({str(tmp_path / 'objects.npy')!r})")


def test_lists_of_specs_are_split_outside_of_brackets():
    assert split("a, b(1, [2, 3]) ,c") == ("a", "b(1, [2, 3])", "c")
    assert split("a") == split("a,") == ("a",)
    assert split("a(x='b, c')") == ("a(x='b, c')",)
    for text in ("a) + (b", "a), (b", "a b", "x=1"):  # are told as they are read
        with pytest.raises(ValueError, match=r"cannot be read|there is no rule 'a'"):
            [read("rule", part) for part in split(text)]


def of_field(draw, field, of_families):
    """A value that an option allows."""
    about, values = field.metadata, []
    if about["of"]:
        return draw(things(about["of"]))
    kind = about["kind"] if isinstance(about["kind"], type) else float
    low = max(about["low"], about["above"], -1e99)
    high = min(about["high"], about["below"], 1e99)
    edges = {"exclude_min": about["above"] >= low, "exclude_max": about["below"] <= high}
    number = st.floats(low, high, **edges)
    if kind is bool:
        values.append(st.booleans())
    elif kind is str:
        values.append(st.sampled_from(registry.choices(field)))
    elif kind is int:
        values.append(st.integers(int(low), 2**40))
    else:
        values.append(number)
        values += [st.just(-np.inf)] if about["infinite"] else []
    if field.default is None:
        values.append(st.none())
    if of_families and kind not in (bool, str):
        for rank in range(max(about["rank"], 1), about["rank"] + 2):
            few = st.lists(number, min_size=2**rank, max_size=2**rank)
            values.append(few.map(lambda x, rank=rank: np.asarray(x).reshape((2,) * rank)))
    return draw(st.one_of(values))


@st.composite
def things(draw, kind):
    """Anything that has a name, with any options."""
    entry = registry.KINDS[kind].entries[draw(st.sampled_from(list(registry.KINDS[kind].entries)))]
    fields = registry.options(entry)
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    given = [name for name in fields if name in needed or draw(st.booleans())]
    values = {name: of_field(draw, fields[name], kind in ("payoff", "cost")) for name in given}
    return entry.having(**values) if isinstance(entry, registry.Function) else entry(**values)


def same(a, b):
    if isinstance(a, registry.Function):
        return a.function is b.function and all(map(same, a.values.values(), b.values.values()))
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(map(same, vars(a).values(), vars(b).values()))
    return type(a) is type(b) and np.array_equal(a, b)


@pytest.mark.parametrize("kind", ["rule", "protocol", "payoff", "cost"])
@hypothesis.settings(max_examples=100)
@hypothesis.given(data=st.data())
def test_what_is_written_is_read_as_the_same(kind, data):
    thing = data.draw(things(kind))
    text = text_of(thing)
    again = read(kind, text)
    assert text_of(again) == text
    if kind == "rule":
        assert same(thing, again)
    else:
        assert type(again) is type(thing)
        for name, value in vars(thing).items():
            assert same(value, getattr(again, name)), name
    for part in split(f"{text}, {text}"):
        assert text_of(read(kind, part)) == text


# What `register` gives a name to.


def test_a_function_with_options_is_a_rule():
    @register("half", "half of it", aliases={"quarter": "half(share=0.25)"})
    def half(game, share: float = option("of costs", 0.5, low=0, high=1)):
        return rules.Refunds(share)

    assert isinstance(half, base.Rule)
    assert half(None).rates == 0.5
    assert read("rule", "quarter").announced(None).mechanism.rates == 0.25
    assert registry.title(read("rule", "quarter")) == "half of it (share = 0.25)"
    assert text_of(read("protocol", "fedbr(quarter)")) == "fedbr(rule=half(share=0.25))"
    with pytest.raises(ValueError, match=r"half has no option 'shar'; did you mean 'share'"):
        half.having(shar=0.1)
    with pytest.raises(ValueError, match="beta needs `beta`"):
        rules.beta(games.Game(None, games.LinearCost(1.0), np.ones(2)))


def test_a_class_of_mechanisms_is_a_rule():
    @register("levy")
    class Levy(base.Mechanism):
        rate: object = option("of a sample", low=0)

        def payments(self, reported, s):
            return self.rate * (jnp.mean(s) - s)

    rule = read("mechanism", "levy([0.5, 1])")
    assert isinstance(
        rule(games.check(games.Game(payoffs.PowerLaw(1, 1, 1), costs.LinearCost(1), [1, 1]))), Levy
    )
    assert text_of(rule) == "levy(rate=[0.5, 1.0])"
    assert rule.label == "levy"
    with pytest.raises(ValueError, match="levy needs `rate`: of a sample"):
        read("rule", "levy")


def test_definitions_that_cannot_work_are_refused_as_they_are_registered():
    def curve(self, total):
        return total

    named = {"curve": curve}
    wrong = {
        "Mine must define `curve`": {"best": option("of endless data")},
        "the default of `best` must be made by `option`": {**named, "best": 0.9},
        "a method is called `statistic`; call the option otherwise": {
            **named,
            "statistic": option("a number"),
        },
    }
    for message, members in wrong.items():
        members["__annotations__"] = {name: object for name in members if name != "curve"}
        with pytest.raises(ValueError, match=message):
            register("mine")(type("Mine", (payoffs.OfTotal,), members))
        assert "mine" not in registry.KINDS["payoff"].entries
    with pytest.raises(ValueError, match=r'register needs a name: write @register\("name"\)'):
        register(type("Mine", (payoffs.OfTotal,), named))


def test_names_that_are_taken_or_none_are_refused():
    def mine(game):
        return rules.none(game)

    for name, aliases in (("price", {}), ("mine", {"price": "mine"})):
        with pytest.raises(ValueError, match=r"there is a rule 'price' already, in fedgame\..*rules\.price"):
            register(name, aliases=aliases)(mine)
    for name in ("my rule", "1st", "", "class", "a-b"):
        with pytest.raises(ValueError, match="a name consists of letters, digits and _, got"):
            register(name)(mine)
    with pytest.raises(ValueError, match=r"a protocol 'fedbr_bg' already, in .*fedbr\.FedBR"):

        @register("fedbr_bg")
        class Mine(protocols.Protocol):
            pass

    with pytest.raises(ValueError, match="Nothing must derive from what it is"):

        @register("nothing")
        class Nothing:
            pass

    register("fedavg")(mine)  # a rule may be called as a protocol is
    assert read("rule", "fedavg").function is mine


def test_what_is_defined_again_replaces_what_it_was():
    def define(default):
        @register("tax", aliases={"low_tax": f"tax(rate={default / 2})", "short": "tax"})
        class Tax(costs.Cost):
            rate: object = option("of a sample", default)

            def value(self, own):
                return self.rate * own

        return Tax

    define(1.0)
    again = define(3.0)
    assert type(read("cost", "tax")) is again
    assert read("cost", "low_tax").rate == 1.5
    assert text_of(read("cost", "short(5)")) == "tax(rate=5.0)"
    assert registry.name_of(again) == "tax"


def test_nothing_of_other_tests_is_left():
    for kind, names in (
        ("rule", {"half", "levy", "fedavg"}),
        ("cost", {"tax", "short"}),
        ("payoff", {"plain"}),
    ):
        found = registry.KINDS[kind]
        assert not names & {*found.entries, *found.aliases}
    assert not registry.used()


# Files of strangers.

LINE = """
import jax.numpy as jnp

from fedgame.games import payoffs
from fedgame.registry import option, register


@register("{name}", aliases={{"{name}_1": "{name}(scale=1)"}})
class Line(payoffs.OfTotal):
    scale: object = option("samples", {default}, above=0)

    def curve(self, total):
        return total / self.scale
"""


def write(file: pathlib.Path, name="line", default="4.0"):
    file.write_text(LINE.format(name=name, default=default))
    return str(file)


def test_a_file_is_imported_once_and_anew_when_its_text_has_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.py")
    for path in ("mine.py", "mine.py", "./mine.py", str(tmp_path / "mine.py")):
        use(path)
        first = registry.KINDS["payoff"].entries["line"]
        assert registry.used().keys() == {"mine.py"}
    assert first is type(read("payoff", "line"))
    assert registry.file_of(first) == "mine.py"
    assert registry.file_of(payoffs.PowerLaw) is None
    assert registry.file_of(rules.price) is None
    assert read("payoff", "line").scale == 4.0
    digest = registry.used()["mine.py"]
    write(tmp_path / "mine.py", default="5.0")  # as long, and written in the same second
    use("mine.py")
    assert registry.used()["mine.py"] != digest
    assert read("payoff", "line").scale == 5.0
    assert read("payoff", "line_1").scale == 1.0
    write(tmp_path / "mine.py", name="other")
    use("mine.py")
    assert type(read("payoff", "other")).label == "other"
    for name in ("line", "line_1"):
        with pytest.raises(ValueError, match=f"there is no payoff {name!r}"):
            read("payoff", name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise RuntimeError('it\\nis raining')\n", "bad.py, line 2: RuntimeError: it is raining$"),
        ("x = 1\n\nx = = 2\n", "bad.py, line 3: SyntaxError: invalid syntax$"),
        ("import nowhere_at_all\n", "bad.py, line 1: ModuleNotFoundError: No module named"),
        ("def f():\n    return 1 / 0\n\nf()\n", "bad.py, line 2: ZeroDivisionError: division by zero$"),
        ("import sys\nsys.exit('bye')\n", "bad.py, line 2: SystemExit: bye$"),
        ("x = 1\0\n", "bad.py.*: source code .*null bytes"),
        (
            "from fedgame.registry import register\n\n@register('price')\ndef mine(game): ...\n",
            "bad.py, line 3: ValueError: there is a rule 'price' already, in fedgame",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_in_one_sentence(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("bad.py").write_text(text)
    for path in ("bad.py", str(tmp_path / "bad.py")):
        with pytest.raises(ValueError, match=f"^--use={path.removesuffix('bad.py')}{message}") as caught:
            use(path)
        assert "\n" not in str(caught.value)
    assert registry.used() == {}
    assert "used_bad" not in sys.modules


def test_a_file_that_fails_leaves_everything_as_it_was(tmp_path):
    path = write(tmp_path / "mine.py")
    use(path)
    before, module = read("payoff", "line_1"), sys.modules["used_mine"]
    pathlib.Path(path).write_text(LINE.format(name="half_done", default="4.0") + "\n1 / 0\n")
    with pytest.raises(ValueError, match="line 15: ZeroDivisionError"):
        use(path)
    assert type(read("payoff", "line_1")) is type(before)
    assert sys.modules["used_mine"] is module
    assert "half_done" not in payoffs.PAYOFFS
    write(tmp_path / "mine.py", default="6.0")
    use(path)
    assert read("payoff", "line").scale == 6.0


def test_files_that_are_none_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--use=none.py: there is no such file"):
        use("none.py")
    with pytest.raises(FileNotFoundError, match=r"--use=~nobody/none.py: there is no such file"):
        use("~nobody/none.py")  # a user who is not there
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        use(str(tmp_path))
    with pytest.raises(ValueError, match=r"mine.txt: the name of a Python file ends in .py"):
        use(write(tmp_path / "mine.txt"))
    (tmp_path / "other").mkdir()
    first, second = write(tmp_path / "mine.py"), write(tmp_path / "other" / "mine.py", "second")
    use(first)
    with pytest.raises(ValueError, match=f"{second}: --use={first} has the same name, and names must differ"):
        use(second)
    assert "second" not in payoffs.PAYOFFS


def test_used_classes_are_told_apart_by_the_text_of_their_file(tmp_path):
    """`identity` of a protocol that trains in a way of its own holds the text that was imported."""
    file = tmp_path / "slow.py"
    text = (
        "from fedgame import protocols\nfrom fedgame.registry import register\n\n\n"
        "@register('slow')\nclass Slow(protocols.FedAvg):\n"
        "    def train(self, trainer, params, plan, number):\n        return params\n"
    )
    found = []
    for source in (text, text + "# changed\n"):
        file.write_text(source)
        use(str(file))
        found.append(protocols.base.identity(read("protocol", "slow")))
    assert found[0]["rule"] == found[1]["rule"] == "used_slow.Slow"
    assert found[0]["code"] != found[1]["code"]


FRESH = """
import sys

from fedgame.games import scenarios

try:
    scenarios.load(sys.argv[1])
except ValueError as error:
    print(error)
print(sorted(x for x in sys.modules if x.startswith("used_")))
"""


def test_a_scenario_tells_the_file_that_defines_its_family(tmp_path):
    path = write(tmp_path / "mine.py")
    use(path)
    game = games.check(games.Game(read("payoff", "line([2, 3])"), games.LinearCost(0.1), [1.0, 2.0]))
    scenarios.save(tmp_path / "game.json", game)
    written = json.loads((tmp_path / "game.json").read_text())["payoff"]
    used = {"file": path, "sha256": registry.used()[path]}
    assert written == {"family": "line", "use": used, "scale": [2.0, 3.0]}
    loaded = scenarios.load(tmp_path / "game.json").game
    assert type(loaded.payoff) is type(game.payoff)
    np.testing.assert_array_equal(loaded.payoff.scale, [2.0, 3.0])
    done = subprocess.run(
        [sys.executable, "-c", FRESH, tmp_path / "game.json"], capture_output=True, text=True, check=True
    )
    assert f"`payoff`: there is no family 'line' without --use={path}, which defined it" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (1e99, {}, None),
        (1e100, {}, r"^--x must be a number below 1e100, got 1e\+100: larger ones cannot be computed with$"),
        (10**400, {}, "^--x must be finite, got 10"),
        (-1e200, {}, r"^--x must be a number above -1e100, got -1e\+200: "),
        (-1e200, {"high": 1.0}, "above -1e100"),
        (1e200, {"high": 1e300}, None),
        (1e200, {"below": 1e300}, None),
        (-1e200, {"infinite": True}, None),
        (np.inf, {"infinite": True}, None),
        (np.array([1.0, 1e200]), {}, "below 1e100"),
    ],
)
def test_numbers_without_a_bound_of_their_own_are_below_1e100(number, options, message):
    field = registry.option("a number", **options)
    if message is None:
        registry.check_number("--x", number, field)
        return
    with pytest.raises(ValueError, match=message):
        registry.check_number("--x", number, field)
