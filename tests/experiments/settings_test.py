import dataclasses
import pathlib

import pytest

from fedgame import mechanisms, registry
from fedgame.experiments import compare, equilibrium
from fedgame.experiments import task as tasks
from fedgame.runs import settings

DIGITS = (1200, 597)


def settle(available=DIGITS, **changes):
    given = compare.Settings(**changes)
    tasks.check_fields(given)
    return compare.settle(given, available)[0]


def test_defaults_suit_the_digits():
    settled = settle()
    assert settled.capacity == (50,) * 10
    assert settled.cost == (0.01,) * 10
    assert settled.server_images == 700
    assert settled.held_out == 497


def test_defaults_are_the_papers_on_mnist():
    settled = tasks.filled(settle((60000, 10000), dataset="mnist"), tables=False)
    assert settled.capacity == (100,) * 10
    assert settled.cost == (0.005,) * 10
    assert (settled.test_images, settled.steps, settled.rounds) == (10, 100, 50)
    assert (settled.learning_rate, settled.momentum) == (0.01, 0.9)
    assert settled.p == (0.2, 0.4, 0.6, 0.8, 1.0)
    assert (settled.server_images, settled.held_out) == (2000, 1000)


def test_one_number_per_agent():
    settled = settle(agents=3, capacity=(10, 20, 40), cost=(0.1, 0.2, 0.3))
    assert settled.capacity == (10, 20, 40)
    assert settled.cost == (0.1, 0.2, 0.3)
    assert settle(agents=2, capacity=(10, 20)).cost == (0.05, 0.025)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 1.3}, r"--beta must be a number, at least 0 and at most 1, got 1.3"),
        ({"beta": -0.1}, r"--beta .* got -0.1"),
        ({"beta": float("nan")}, r"--beta .* got nan"),
        ({"p": (0.5, 1.5)}, r"--p must be a number, at most 1, got 1.5"),
        ({"p": (float("nan"),)}, r"--p .* got nan"),
        ({"p": ()}, r"--p needs at least one number"),
        ({"agents": 1}, r"--agents must be a number, at least 2 and at most 1000000, got 1"),
        ({"capacity": (0,)}, r"--capacity must be a number, at least 1, got 0"),
        ({"capacity": (5, 6)}, r"--capacity needs one number or one for each of 10 agents, got 2"),
        ({"cost": (-1.0,)}, r"--cost .* got -1.0"),
        ({"cost": (float("inf"),)}, r"--cost .* got inf"),
        (
            {"cost": (0.0,)},
            r"--protocol, FedBR-BG: β\* .* is defined for linear costs above 0 .*; or give --be",
        ),
        ({"cost": "power(0.01, 2)"}, r"--protocol, FedBR-BG: β\* .* is defined for linear costs above 0"),
        (
            {"cost": (0.0,), "protocol": ("fedbr",), "mode": "literal"},
            r"--cost: --mode=literal divides by costs",
        ),
        ({"protocol": ()}, r"--protocol needs at least one name"),
        ({"protocol": ("fedavg", "fed")}, r"--protocol: there is no protocol 'fed'; .*\(there are .*fedavg"),
        ({"protocol": ("fedavg", "fedavg")}, r"--protocol names one twice: FedAvg"),
        ({"protocol": ("fedbr", "fedbr(none, steps=100)")}, r"--protocol names one twice: FedBR"),
        ({"protocol": ("fedbr(stpes=9)",)}, r"--protocol: fedbr has no option 'stpes'; did you mean 'steps'"),
        (
            {"protocol": ("mwfed(target=2)",)},
            r"--protocol: mwfed: `target` must be a number, at least 0 and at",
        ),
        (
            {"protocol": ("fedbr",), "beta": 0.5},
            "--beta is that of fedbr_bg: no protocol of --protocol leaves it open",
        ),
        (
            {"protocol": ("fedbr",), "price": 0.5},
            r"--price is that of fedbr\(price\): no protocol of --protocol leaves",
        ),
        (
            {"mode": "literal", "protocol": ("fedbr_price",)},
            r"--mode=literal is printed for refunds .*one price",
        ),
        (
            {"cost": "power(0.01, 2)", "protocol": ("fedbr",), "mode": "literal"},
            r"--cost: --mode=literal divides by costs: they must be linear and above 0",
        ),
        (
            {"cost": "linear([0.1, 0.2])"},
            r"--cost: `rate` must be shared or have one entry for each of 10 agents",
        ),
        ({"cost": "linear(0.1, 0.2, 0.3)"}, r"--cost: linear has no 3 options: it has rate, fixed"),
        ({"cost": "ordered([0.1, 0.2])", "beta": 0.5}, r"--cost: `capacity` must be at most the 2 records"),
        (
            {"agents": 2001, "capacity": (1,), "protocol": ("fedbr_shapley",)},
            r"--protocol, FedBR, Shapley .*2001",
        ),
        (
            {"learning_rate": 0.0},
            r"--learning_rate must be a number, greater than 0 and at most 1e\+38, got 0.0",
        ),
        ({"channels": (3,)}, r"--channels needs two numbers, got 1"),
        ({"model": "vgg11", "units": 5}, r"--units is of cnn and mlp; --model=vgg11 has none"),
        ({"model": "vgg11", "channels": (3, 4)}, r"--channels and --padding are the CNN's; --model=vgg11"),
        (
            {"model": "vgg"},
            r"--model must be one of cnn, cnn_wide, vgg11, vgg11_4096, linear, mlp, got 'vgg'",
        ),
        ({"sizes": (10, 20)}, r"--sizes, --interval: a curve needs at least three sizes above 0"),
        ({"interval": 200}, r"--sizes, --interval: a curve needs at least three sizes above 0"),
        ({"sizes": (10, 20, 30), "interval": 10}, r"--sizes and --interval exclude each other"),
        ({"padding": "same"}, r"--padding must be one of SAME, VALID, got 'same'"),
        ({"capacity": (61,)}, r"--capacity=61.*10 agents need 610 .* at least 610 .*digits has 1200"),
        ({"server_images": 499}, r"--server_images=499.* the server at least 500"),
        ({"server_images": 701}, r"--server_images=701.*digits has 1200"),
        ({"test_images": 60}, r"--test_images=60.*10 agents need 600 test images.*digits has 597"),
        ({"held_out": 498}, r"--held_out=498.*digits has 597"),
    ],
)
def test_errors_name_flag_value_and_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        settle(**changes)


def test_the_minimum_is_a_valid_p_and_zero_cost_a_valid_cost_under_a_given_beta():
    settle(p=(float("-inf"), 0.0, 1.0))
    settle(cost=(0.0,), beta=0.5)
    settle(cost="linear(0)", protocol=("fedbr(beta)",), beta=0.5)


def test_every_setting_has_help():
    assert all(field.metadata["help"] for field in dataclasses.fields(compare.Settings))


def test_a_payoff_that_defines_fit_is_allowed_and_named(saturation):
    settings.check(compare.Settings(fit="saturation"))
    with pytest.raises(
        ValueError, match="--fit must be one of bound, concave, power, saturation, got 'spline'"
    ):
        settings.check(compare.Settings(fit="spline"))
    del saturation.fit
    with pytest.raises(ValueError, match="--fit must be one of bound, concave, power, got 'saturation'"):
        settings.check(compare.Settings(fit="saturation"))


def test_a_class_of_payments_has_the_limit_of_the_general_form_unless_it_has_a_form_of_its_own():
    class Flat(mechanisms.Mechanism):
        def payments(self, reported, s):
            return 0.0 * s

    class Solved(Flat):
        def under(self, game, reported=None):
            return game

    many = {"agents": 2001, "capacity": (1,), "sizes": (1, 2, 3)}
    registry.register("flat")(Flat)
    registry.register("solved")(Solved)
    with pytest.raises(
        ValueError, match=r"--protocol, FedBR, flat: Flat is solved .* up to 2000 agents, got 2001"
    ):
        settle(protocol=("fedbr(flat)",), **many)
    with pytest.raises(
        ValueError, match="--mode=literal is printed for refunds of costs only, not for FedBR, s"
    ):
        settle(protocol=("fedbr(solved)",), mode="literal")
    with pytest.raises(ValueError, match="digits has 1200"):  # nothing else is wrong
        settle(protocol=("fedbr(solved)",), **many)


def test_numbers_that_texts_name_are_known_by_what_is_in_their_files(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("0.01\n0.02\n")
    other.write_text("0.5\n")
    given = {"cost": f"linear('{one}')", "protocol": ("fedavg", f"mwfed(target='{other}')", "fedbr")}
    found = settings.described(compare.Settings(**given))
    assert found["cost"] == given["cost"]
    assert set(found["sha256"]) == {str(one), str(other)}
    one.write_text("0.01\n0.03\n")
    assert settings.described(compare.Settings(**given))["sha256"] != found["sha256"]
    assert settings.described(compare.Settings())["sha256"] == {}


def test_what_a_folder_of_tables_holds_is_part_of_the_settings(tmp_path):
    (tmp_path / "north.csv").write_text("a,y\n1,0\n")
    (tmp_path / "notes.txt").write_text("of no importance")
    given = {"federation": str(tmp_path)}
    before = settings.described(compare.Settings(**given))["sha256"]
    assert list(before) == [str(tmp_path / "north.csv")]
    (tmp_path / "north.csv").write_text("a,y\n2,0\n")
    assert settings.described(compare.Settings(**given))["sha256"] != before


def test_a_home_directory_stands_for_itself_in_every_path_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = {"agents": "~/a.csv", "curve": "c.csv", "measurements": None, "payoff": "mine('~/x.npy')"}
    found = settings.expanded(equilibrium.Settings(**given))
    assert found == equilibrium.Settings(**given | {"agents": "/home/me/a.csv"})
    assert settings.expanded(compare.Settings()) == compare.Settings()
    training = compare.Settings(dataset="~/pets/", federation="~", target="~")
    assert settings.expanded(training) == dataclasses.replace(
        training, dataset="/home/me/pets/", federation="/home/me"
    )


@pytest.mark.parametrize(
    ("value", "read"), [("a.csv", True), ("folder", True), ("nothing", False), (None, False)]
)
def test_what_settings_name_is_what_a_run_reads(value, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x\n")
    (tmp_path / "folder").mkdir()
    given = equilibrium.Settings(curve=value, payoff="mine('a.csv')")
    expected = [pathlib.Path(name) for name in ([value] if read else []) + ["a.csv"]]
    assert sorted(settings.reads(given)) == sorted(expected)
