"""The params: YAML 1.2 as DVC reads it, and one line for everything that is wrong in them."""

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from geobody.config import Controls, Dataset, GanPrior, HeldOut, Labels, load_params
from geobody.errors import DataError, ParamsError
from geobody.training.schedule import Schedule
from geobody.yaml12 import read_yaml

ROOT = Path(__file__).resolve().parents[1]

TRICKY_SCALARS = [
    "1e-5", "1E-5", "1.5e3", "1e5", "-1e-05", "1.", ".5", "-.5", "+3", "-0", "0", "010", "0o17", "0x1F",
    "1_000", "on", "off", "yes", "no", "y", "n", "true", "True", "TRUE", "false", "tRue", "null", "~",
    "Null", "none", "", ".inf", "-.INF", ".nan", "inf", "nan", "1:30", "12:30:45", "2026-11-22", "'1e-5'",
    '"true"', "1e", "e5", "0.1.2", "1 000", "ab", "0b101", "1e+5", "+1.0",
]  # fmt: skip


@pytest.mark.parametrize("scalar", TRICKY_SCALARS)
def test_a_scalar_is_what_dvc_takes_it_for(tmp_path: Path, scalar: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"key: {scalar}\n")
    expected = YAML(typ="safe", pure=True).load(file.read_text())["key"]
    ours = read_yaml(file)["key"]
    if hasattr(expected, "isoformat"):  # ruamel reads dates; no param is one, and a string is refused as well
        assert isinstance(ours, str)
        return
    assert type(ours) is type(expected)
    assert ours == expected or (ours != ours and expected != expected)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    file = tmp_path / "params.yaml"
    file.write_text(text.replace(old, new, 1))
    return file


def test_the_committed_params_are_valid() -> None:
    assert load_params(ROOT / "params.yaml").seed == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 0", "seed: 0\nsede: 1", "sede: unknown key"),
        ("seed: 0", "seed: -1", "seed: -1 is wrong"),
        ("seed: 0", "seed: zero", "seed: 'zero' is wrong"),
        ("seed: 0", "seed: 1.5", "seed: 1.5 is wrong"),
        ("seed: 0", "seed: 0\nseed: 1", "stands twice"),
        ("seed: 0", "seed: [0", "is no YAML"),
        ("generate: [embedded]", "generate: [open]", "generate.0: 'open' is wrong"),
        ("backgrounds:\n  frames: 40\n", "", "backgrounds: missing"),
        ("  root: data/synthetic/surreal", '  root: ""', "prior.root: '' is wrong"),
        ("root: data/synthetic\n", "root: 3\n", "dataset.root: 3 is wrong"),
        ("model: data/body/open_1723.npz", 'model: ""', "body.model: '' is wrong"),
        (
            "    - 9\n    - 11\n",
            "    - 9\n    - 8\n",
            "dataset.test_subjects: (9, 8) is wrong: subjects [8] stand",
        ),
        (
            "noise_max_deg: 90.0",
            "noise_max_deg: 2.0",
            "gan_prior.noise_max_deg: 2.0 is wrong: noise_min_deg (3.0)",
        ),
        (
            "first_share: 0.4",
            "first_share: 0.0",
            "tuning.first_share: 0 is wrong for an encoder from scratch",
        ),
    ],
)
def test_a_wrong_param_is_named_with_its_value(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ParamsError, match=r"^params\.yaml:") as caught:
        load_params(changed(tmp_path, old, new))
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def float_keys() -> list[tuple[str, str]]:
    params = load_params(ROOT / "params.yaml").model_dump()
    sections = {name: values for name, values in params.items() if isinstance(values, dict)}
    return [(s, key) for s, values in sections.items() for key, v in values.items() if isinstance(v, float)]


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e400"])
def test_no_float_may_be_infinite_or_nan(tmp_path: Path, number: str) -> None:
    keys = float_keys()
    assert len(keys) > 30
    for section, key in keys:
        text = (ROOT / "params.yaml").read_text()
        text, changes = re.subn(rf"(?m)^({section}:\n(?:  .*\n)*?  {key}:) .*$", rf"\1 {number}", text)
        assert changes == 1
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(
            ParamsError, match=rf"^params\.yaml: {section}\.{key}: -?(inf|nan) is wrong: [^\n]*$"
        ):
            load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("section", ["encdec", "pose_head", "controls", "gan_prior", "smpl_regressor"])
def test_the_warm_up_ends_before_the_training_does(tmp_path: Path, section: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    file = tmp_path / "params.yaml"
    for steps, good in ((8, False), (7, False), (9, True)):
        changed_text = re.sub(rf"(?m)^({section}:\n(?:  .*\n)*?  steps:) .*$", rf"\1 {steps}", text)
        file.write_text(re.sub(rf"(?m)^({section}:\n(?:  .*\n)*?  warmup_steps:) .*$", r"\1 8", changed_text))
        if good:
            assert getattr(load_params(file), section).warmup_steps == 8
            continue
        wanted = rf"^params\.yaml: {section}\.warmup_steps: 8 is wrong: must be less than steps \({steps}\)$"
        with pytest.raises(ParamsError, match=wanted):
            load_params(file)


@pytest.mark.parametrize("section", ["encdec", "pose_head", "tuning", "controls", "smpl_regressor"])
def test_a_training_gets_its_sections_keys_those_of_the_schedule_as_one(section: str) -> None:
    params = getattr(load_params(ROOT / "params.yaml"), section)
    schedule = asdict(params.schedule())
    assert set(schedule) == {
        "steps", "batch_size", "learning_rate", "weight_decay", "warmup_steps", "clip_norm"
    }  # fmt: skip
    assert not schedule.keys() & params.beside_schedule().keys()
    assert schedule | params.beside_schedule() == params.model_dump()


def test_the_ceiling_may_train_for_another_time() -> None:
    controls = Controls(steps=50, weight_decay=0.1, clip_norm=1.0, warmup_steps=5)
    assert controls.ceiling_schedule() == controls.schedule()
    shorter = controls.model_copy(update={"ceiling_steps": 3}).ceiling_schedule()
    assert (shorter.steps, shorter.warmup_steps) == (3, 2)


def test_the_priors_networks_have_rates_of_their_own() -> None:
    params = GanPrior(
        steps=7, batch_size=3, weight_decay=0.5, warmup_steps=2, clip_norm=4.0,
        discriminator_learning_rate=0.1, generator_learning_rate=0.2,
    )  # fmt: skip
    assert params.schedule() == Schedule(
        steps=7,
        batch_size=3,
        learning_rate={"discriminator": 0.1, "generator": 0.2},
        weight_decay=0.5,
        warmup_steps=2,
        clip_norm=4.0,
    )


@pytest.mark.parametrize(
    ("section", "key", "items", "most", "needed"),
    [
        ("encdec", "batch_size", 16, 2, 24),  # four quadruples
        ("pose_head", "batch_size", 5, 2, 6),
        ("gan_prior", "batch_size", 4, 2, 6),
        ("smpl_regressor", "batch_size", 4, 2, 6),
        ("smpl_regressor", "instants", 4, 2, 6),
    ],
)
def test_processes_are_no_more_than_every_batch_can_be_shared_by(
    tmp_path: Path, section: str, key: str, items: int, most: int, needed: int
) -> None:
    file = tmp_path / "params.yaml"
    for processes in (most, most + 1):
        text = (ROOT / "params.yaml").read_text().replace("processes: 1", f"processes: {processes}")
        text, changes = re.subn(rf"(?m)^({section}:\n(?:  .*\n)*?  {key}:) .*$", rf"\1 {items}", text)
        assert changes == 1
        file.write_text(text)
        if processes == most:
            assert load_params(file).training.processes == most
            continue
        wanted = rf"training\.processes: 3 is wrong: .* {section}\.{key} allows 2; .* to {needed} or more$"
        with pytest.raises(ParamsError, match=wanted):
            load_params(file)


def test_four_processes_are_the_most_for_the_committed_params(tmp_path: Path) -> None:
    assert load_params(changed(tmp_path, "processes: 1", "processes: 4")).training.processes == 4
    with pytest.raises(ParamsError, match=r"training\.processes: 5 is wrong: .*smpl_regressor\.instants"):
        load_params(changed(tmp_path, "processes: 1", "processes: 5"))


def check_params(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.check_params"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_section_that_no_stage_reads_is_found_before_dvc_starts(tmp_path: Path) -> None:
    done = check_params(changed(tmp_path, "seed: 0", "seed: 0\nencdek: {}").parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: params.yaml: encdek: unknown key; remove it or mend its spelling\n"
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = check_params(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    recipe = (ROOT / "Makefile").read_text().split("\nrepro:")[1].split("\n\n")[0]
    assert recipe.index("tools.check_params") < recipe.index("\tdvc repro")


def test_missing_params_are_a_data_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"params\.yaml: is missing") as caught:
        load_params(tmp_path / "params.yaml")
    assert caught.value.exit_code == 3


def test_params_cannot_be_changed_after_loading() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 1  # type: ignore[misc]


def test_a_stage_sees_the_sections_that_it_declared_and_no_others() -> None:
    view = load_params(ROOT / "params.yaml").view(("seed", "body"))
    assert view.seed == 0
    with pytest.raises(AttributeError, match="not declared"):
        _ = view.dataset


@pytest.mark.parametrize("key", ["train_subjects", "test_subjects"])
def test_bodies_for_evaluation_alone_cannot_be_named_as_subjects(key: str) -> None:
    with pytest.raises(ValidationError, match="99"):
        Dataset(**{key: (1, 101)})


def test_held_out_people_teach_nobody_not_even_the_ceiling() -> None:
    held_out, labels = HeldOut(subjects=(8,)), Labels()
    assert held_out.taught([11, 8, 1]) == [1, 11]
    assert held_out.labels(labels) == labels.model_dump() | {"ceiling_subjects": [1, 5, 6, 7]}
    assert HeldOut().labels(labels) == labels.model_dump() | {"ceiling_subjects": [1, 5, 6, 7, 8]}
    with pytest.raises(ParamsError, match=r"held_out.subjects: subject 1 stands in labels.subjects too"):
        HeldOut(subjects=(1,)).labels(labels)
