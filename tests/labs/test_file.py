"""What `instar run mylab.py` says of a file that holds no lab it could run: one line with file and line, exit 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from instar.cli.main import app
from instar.contracts.errors import BadInput, InstarError
from instar.contracts.exam import Stage
from instar.labs.file import open_lab

GOOD = """import numpy as np
from instar import FunctionLab, LabProfile, Metric, QuestionSet, Real, Space

def train(design):
    return {"a": np.array([design["a"]])}

def questions(seed):
    asked = np.random.default_rng(seed).random(50)
    return QuestionSet({"asked": asked}, {"right": asked > 0.5})

def answer(model, questions):
    return {"above": questions["asked"] > model["a"]}

def mark(questions, answers):
    return answers["above"] == questions.answers["right"]

lab = FunctionLab(LabProfile("half", Metric("share")), space=Space({"a": Real(0, 1)}), seed_design={"a": 0.9},
                  train=train, questions=questions, answer=answer, mark=mark)
"""

BAD = {
    "a syntax error": (("def train(design):", "def train(design:"), r"mylab\.py:4: '\(' was never closed"),
    "a missing module": (("import numpy as np", "import nimpy as np"), r"mylab\.py:1: there is no module 'nimpy'"),
    "a missing name": (("QuestionSet, Real", "QuestionSet, Reel"), r"mylab\.py:2: ImportError: cannot import name"),
    "an error at its top level": (("lab = ", "lab = 1 / 0\nlab = "), r"mylab\.py:17: ZeroDivisionError"),
    "a missing function": ((" answer=answer,", ""), r"mylab\.py:17: TypeError: .*missing.*'answer'"),
    "no questions function": ((" questions=questions,", ""), r"mylab\.py:17: TypeError: .*missing.*'questions'"),
    "a space of another kind": (("space=Space({", "space=dict({"), r"mylab\.py:17: 'space' must be a Space, not dict"),
    "a seed design of another kind": (('{"a": 0.9}', "0.9"), r"mylab\.py:17: 'seed_design' must be a Mapping"),
    "a seed design outside the space": (("0.9", "1.9"), r"mylab\.py:17: seed_design: .*1\.9 is outside"),
    "a lambda": (("train=train", "train=lambda design: {}"), r"mylab\.py:17: 'train' must be a function"),
    "a question for what is not on offer": (("train(design)", "train(desing)"), r"train\(\) asks for 'desing'"),
    "no lab": (("lab = FunctionLab(", "lab = dict(a="), r"mylab\.py:17: SyntaxError|holds no lab|mylab\.py:17"),
    "two labs": (("lab = ", "other = lab = "), None),
    "a list of questions": (("QuestionSet({", "list({"), r"mylab\.py:9: TypeError"),
    "questions of another kind": (
        ('return QuestionSet({"asked": asked}, {"right": asked > 0.5})', "return [asked]"),
        r"mylab\.py:7: questions\(\d+\) returned list",
    ),
    "no questions": (("random(50)", "random(0)"), r"mylab\.py:7: questions\(\d+\) returned no questions"),
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mylab.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [name for name, (_, said) in BAD.items() if said])
def test_a_file_without_a_good_lab_is_told_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (old, new), said = BAD[name]
    assert old in GOOD
    written(tmp_path, GOOD.replace(old, new, 1))
    done = CliRunner().invoke(app, ["run", "mylab.py", "--budget", "5s"])
    with pytest.raises(InstarError, match=said):
        raise done.exception or AssertionError(done.output)
    assert "\n" not in str(done.exception)
    assert done.exception.exit_code == 2  # type: ignore[union-attr]
    assert not (tmp_path / "instar-runs").exists()


def test_two_labs_none_and_no_file(tmp_path: Path) -> None:
    again = GOOD[GOOD.index("lab = ") :].replace("lab = ", "other = ")
    with pytest.raises(BadInput, match=r"mylab\.py: it holds 2 labs: lab, other"):
        open_lab(written(tmp_path, GOOD + again), {})
    with pytest.raises(BadInput, match=r"mylab\.py: it holds no lab"):
        open_lab(written(tmp_path, GOOD[: GOOD.index("lab = ")]), {})
    with pytest.raises(BadInput, match=r"other\.py: cannot be read \(No such file"):
        open_lab(tmp_path / "other.py", {})
    with pytest.raises(BadInput, match="unknown option 'size'"):
        open_lab(written(tmp_path, GOOD), {"size": "3"})
    assert open_lab(written(tmp_path, GOOD + "same = lab\n"), {}).name == "half", "one lab by two names"


def test_the_modules_of_the_file_are_imported_once_for_all_jobs(tmp_path: Path) -> None:
    lab = open_lab(written(tmp_path, GOOD), {})
    assert list(lab.profile.preload) == ["instar.labs.function_jobs", "instar", "numpy"]
    assert not lab.profile.inherits
    assert lab.profile.settings == {"rungs": 1}
    assert len(lab.exam.set(1, Stage.SCREEN).questions["asked"]) == 50
