import os
import pickle
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers import composed
from xmnist.cli import arguments
from xmnist.config import derived, resolution, schema
from xmnist.config.declarations import COMPONENTS
from xmnist.config.derived import trained
from xmnist.runs import claims, commands, store
from xmnist.runs.commands import words
from xmnist.runs.store import Run
from xmnist.runtime import environment
from xmnist.runtime.errors import InputError

Settings = Callable[..., resolution.Settings]


@pytest.fixture
def run(settings: Settings) -> Run:
    return Run("train", settings("+experiment=smoke"))


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out = {}
    for key, value in node.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


NO_PART_OF_THE_NAME = {
    "device": "cuda:1",
    "data_dir": "/elsewhere",
    "out_dir": "/elsewhere",
    "train_missing": False,
    "force": True,
    "fail_fast": True,
    "hints": True,
    "format": ["png", "pdf"],
    "trainer.precision": "bf16",
}


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if value is None:
        return 0.5
    if isinstance(value, int | float):
        return value + 0.125 if isinstance(value, float) else value + 1
    return f"{value}x"


def with_another(settings: Any, key: str, value: Any) -> Any:
    """Settings with another value, allowed or not."""
    first, _, rest = key.partition(".")
    if not rest:
        return replace(settings, **{first: value})
    own = getattr(settings, first)
    if first in COMPONENTS:
        return replace(settings, **{first: COMPONENTS[first].recorded(own.plain() | {rest: value})})
    part, _, leaf = rest.partition(".")
    changed = {part: getattr(own, part) | {leaf: value}} if leaf else {"own": own.own | {part: value}}
    return replace(settings, trainer=replace(own, **changed))


def test_the_name_follows_every_setting_that_can_change_the_result_and_no_other(settings: Settings) -> None:
    base = settings("+experiment=smoke")
    name = store.run_id("train", base)
    for key, value in flat(base.plain()).items():
        other = with_another(base, key, NO_PART_OF_THE_NAME.get(key, changed(value)))
        assert flat(other.plain())[key] != value
        if key.startswith("trainer.joint."):  # another model's
            assert store.run_id("train", other) == name
        elif key != "model.name":
            assert (store.run_id("train", other) == name) == (key in NO_PART_OF_THE_NAME), key


def test_what_came_later_has_no_part_in_a_name_until_it_is_used(settings: Settings) -> None:
    whole, half, listed = (settings("dataset=mnist", f"neurons={given}") for given in ("1", "0.5", "[5,2]"))
    assert store.run_id("train", whole) == store.run_id("train", settings("dataset=mnist"))
    assert store.run_id("train", half).startswith("layer=dense,neurons=0.5,alpha=0.25,seed=0-")
    assert store.run_id("train", listed).startswith("layer=dense,neurons=2+5,alpha=0.25,seed=0-")
    classifiers = {store.run_id("train", trained(each, "classifier")) for each in (whole, half, listed)}
    assert len(classifiers) == 1
    same = settings("dataset=mnist", "neurons=[2,5]"), settings("dataset=mnist", "neurons=[5,2]", "dataset.size=28")
    assert {store.run_id("train", each) for each in same} == {store.run_id("train", listed)}
    orders = [settings("dataset=mnist", f"layer={given}") for given in ("all", "[logits,conv,dense]")]
    assert [each.layer for each in orders] == [["conv", "dense", "logits"]] * 2
    resized = settings("dataset=mnist", "dataset.size=32")
    assert store.run_id("train", trained(resized, "classifier")) not in classifiers


def test_names_do_not_change_from_version_to_version(settings: Settings) -> None:
    """A changed hash makes every finished run of every user unfindable: change this figure only knowingly."""
    assert store.run_id("train", settings("trainer=paper", "dataset=mnist")) == "layer=dense,alpha=0.25,seed=0-cdb966b8"


def test_the_path_says_what_the_run_is(run: Run) -> None:
    parts = run.path.parts[-4:]
    assert parts[:3] == ("train", "glyphs", "cladec")
    assert parts[3].startswith("layer=dense,alpha=0.25,seed=0-") and len(parts[3].rsplit("-", 1)[1]) == 8


def test_atomic_replaces_whole_files_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with store.atomic(path) as file:
        file.write_text("old")
    with pytest.raises(RuntimeError), store.atomic(path) as file:
        file.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_files_have_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with store.atomic(tmp_path / "a") as file:
        file.write_text("x")
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def state(run: Run) -> str:
    return run.status().get("state", "none")


def finish(run: Run) -> None:
    with claims.claim(run, "xmnist train x=1"):
        run.save("model.pt", nn.Linear(2, 2).state_dict())
        run.write_json("metrics.json", {"accuracy": 0.5})


def test_claim_goes_from_running_to_done(run: Run) -> None:
    assert state(run) == "none" and not run.finished()
    with claims.claim(run, "xmnist train x=1") as needed:
        assert needed and state(run) == "running" and not run.finished()
        run.save("last.pt", {})
        run.save("model.pt", {})
    assert state(run) == "done" and run.finished()
    assert run.status()["command"] == "xmnist train x=1"
    assert not (run.path / "last.pt").exists()
    assert (run.path / ".hydra" / "overrides.yaml").read_text() == "- x=1\n"
    with claims.claim(run, "xmnist train x=1") as needed:
        assert not needed


def test_force_does_a_finished_run_again(run: Run) -> None:
    finish(run)
    with claims.claim(Run("train", replace(run.settings, force=True)), "c") as needed:
        assert needed


@pytest.mark.parametrize(
    ("error", "wanted"),
    [(RuntimeError("boom"), "failed"), (KeyboardInterrupt(), "interrupted"), (InputError("x"), "none")],
)
def test_claim_tells_how_a_run_ended(run: Run, error: BaseException, wanted: str) -> None:
    with pytest.raises(type(error)), claims.claim(run, "c"):
        raise error
    assert state(run) == wanted
    if wanted == "failed":
        assert run.status()["error"] == "RuntimeError: boom"
        assert "raise error\nRuntimeError: boom" in (run.path / "train.log").read_text().replace("    ", "")


def test_bad_input_leaves_an_interrupted_run_as_it_was(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt), claims.claim(run, "c"):
        raise KeyboardInterrupt
    with pytest.raises(InputError), claims.claim(run, "c"):
        raise InputError("x")
    assert state(run) == "interrupted"


def test_a_second_claim_waits_and_finds_the_run_done(run: Run) -> None:
    order: list[str] = []

    def second() -> None:
        with claims.claim(run, "c") as needed:
            order.append(f"second, needed={needed}")

    with claims.claim(run, "c"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second, needed=False"]


@pytest.mark.parametrize("name", ["model.pt", "metrics.json"])
def test_a_changed_file_of_a_finished_run_is_refused(run: Run, name: str) -> None:
    finish(run)
    content = bytearray((run.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run.path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not the file that this run wrote"):
        run.finished()


def test_a_run_whose_file_is_gone_is_done_again(run: Run) -> None:
    finish(run)
    (run.path / "model.pt").unlink()
    assert not run.finished()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "don'])
def test_a_status_that_cannot_be_read_is_no_finished_run(run: Run, content: str) -> None:
    finish(run)
    (run.path / "status.json").write_text(content)
    assert not run.finished()


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "hostile", "list"])
def test_damaged_and_hostile_checkpoints_are_refused(
    run: Run, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finish(run)
    path = run.path / "model.pt"
    whole = path.read_bytes()
    if damage == "hostile":
        torch.save({"weight": Hostile()}, path)
    elif damage == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes(
            {"truncated": whole[: len(whole) // 2], "text": b"hello", "pickle": pickle.dumps(Hostile(), protocol=2)}[
                damage
            ]
        )
    with pytest.raises(InputError, match=r"model\.pt is no checkpoint of this run") as caught:
        run.load("model.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_another_network_is_refused_and_the_difference_named(run: Run) -> None:
    finish(run)
    with pytest.raises(InputError, match=r"no checkpoint of this run: .*weight.*force=true"):
        run.load_into(nn.Linear(3, 2), "model.pt")
    with pytest.raises(InputError, match="it is missing"):
        run.load_into(nn.Linear(2, 2), "other.pt")


def test_checkpoints_come_back_as_they_were_and_equal_states_give_equal_files(run: Run) -> None:
    finish(run)
    model = nn.Linear(2, 2)
    run.load_into(model, "model.pt")
    run.save("copy.pt", model.state_dict())
    assert (run.path / "copy.pt").read_bytes() == (run.path / "model.pt").read_bytes()


def test_the_environment_names_what_a_result_depends_on() -> None:
    facts = environment.describe("cpu", threads=2, seed=7)
    for name in ("scipy", "pandas", "torchmetrics", "captum", "zennit", "matplotlib", "pillow"):
        assert facts["versions"][name]
    assert len(facts["source"]) == 64 and facts["gpu"] is None
    assert (facts["device"], facts["threads"], facts["seed"]) == ("cpu", 2, 7)
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0] and facts["versions"]["xmnist"]
    assert facts["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", facts["commit"])


def test_commands_are_made_of_what_was_typed() -> None:
    typed = ["model=cladec", "layer=conv", "model.decoder=conv64", "+experiment=smoke", "trainer.lr=0.1"]
    assert commands.command("train", typed) == "xmnist train " + " ".join(typed)
    assert commands.command("train", [*typed, "force=true", "alpha=[0,1]"]) == (
        "xmnist train " + " ".join(typed) + " 'alpha=[0,1]'"
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=refae", "layer=conv", "seed=3", "device=cpu"),
        ("model=classifier", "classifier=lenet_avgpool", "classifier.nonpositive_bias=false"),
        ("alpha=[0,0.25,1e-7]", "trainer=paper", "++trainer.decoder.epochs=1", "dataset=glyphs", "dataset.train=300"),
        ("+experiment=smoke", "model.decoder=dense128", "trainer.stop_patience=3", "data_dir='a, b'"),
    ],
)
def test_settings_can_be_said_again_in_words(settings: Settings, overrides: tuple[str, ...]) -> None:
    """What a run needs is named by a command that makes exactly that run."""
    own = settings("dataset=mnist", *overrides)
    said_again = arguments.freed(words(own), [])
    again = resolution.resolve(composed(*said_again))
    decoder = [derived.trained(own, "cladec", 0.5)] if own.model.decodes else []
    for said in (own, derived.trained(own, "classifier"), *decoder):
        repeated = derived.trained(again, said.model.name, said.alpha) if said is not own else again
        assert store.run_id("train", repeated) == store.run_id("train", said)
    assert {k: getattr(again, k) for k in schema.COMMON} == {k: getattr(own, k) for k in schema.COMMON}
    assert words(own)[0].startswith("dataset=") and len(words(settings("dataset=mnist"))) == 2
