"""The lab as Instar sees it: about eighty lines, none of them about the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.exam import Arrays, QuestionSet, Stage
from instar.contracts.lab import Lab, LabProfile, Metric, Safeguard, TrainRequest
from instar.contracts.records import Design, Job, Limits, SandboxKind, Score
from instar.contracts.space import Integer, Real, Space
from instar.executors.artefacts import read_arrays, read_json
from instar.labs.checks import Form, formed
from instar_digits.data import exam_set

_QUESTIONS = {Stage.SCREEN: 200, Stage.PROMOTION: 500, Stage.REPORT: 500}


class DigitsExam:
    """Images from the held-out third; drawn anew for every sitting, with replacement."""

    chance = 0.15  # ten classes, one of them a little more frequent

    def set(self, seed: int, stage: Stage) -> QuestionSet:
        images, labels = exam_set()
        rows = np.random.default_rng(seed).integers(0, len(images), _QUESTIONS[stage])
        return QuestionSet({"images": images[rows]}, {"labels": labels[rows]})

    def evaluate(self, key: str, artefact: Path, questions: Path, limits: Limits) -> Job:
        inputs = {"artefact": artefact, "questions.safetensors": questions}
        return Job(key, SandboxKind.EXAM, "instar_digits.work:evaluate", {}, inputs, limits)

    def mark(self, question_set: QuestionSet, answers: Arrays) -> Score:
        labels = np.asarray(question_set.answers["labels"])
        classes = formed(answers, {"classes": Form("int64", labels.shape, low=0, high=9)})["classes"]
        right = classes == labels
        lengths = np.full(len(labels), np.nan)  # telling digits apart has no task length
        # One band: who always says "2" is perfect on twos, and no successor could be shown to keep that.
        bands = np.zeros(len(labels), dtype=np.int64)
        metrics = {"accuracy": float(right.mean())}
        shares = np.bincount(classes.clip(0, 9), minlength=10) / len(classes)
        entropy = -float(np.sum(shares * np.log2(shares, where=shares > 0, out=np.zeros(10))))
        spread = {"entropy of the classes": entropy}
        return Score(right.astype(np.float64), right, lengths, bands, ("all digits",), metrics, safeguards=spread)

    def known_good(self, question_set: QuestionSet) -> Arrays:
        return {"classes": np.asarray(question_set.answers["labels"]).astype(np.int64)}

    def cheats(self, question_set: QuestionSet) -> Mapping[str, Arrays]:
        labels = np.asarray(question_set.answers["labels"]).astype(np.int64)
        return {"classes off by one": {"classes": (labels + 1) % 10}, "classes past nine": {"classes": labels + 10}}

    def outline(self, question_set: QuestionSet) -> Score:
        labels = np.asarray(question_set.answers["labels"]).astype(np.int64)
        return self.mark(question_set, {"classes": (labels + 1) % 10})  # who answers nothing is never right


class DigitsLab(Lab):
    """A design is `features.py` and two numbers."""

    profile = LabProfile(
        "digits",
        Metric("accuracy"),
        artefact_files=("features.json", "model.safetensors"),
        preload=("instar_digits.work", "sklearn.datasets"),
        pool=len(exam_set()[0]),
        safeguards=(Safeguard("entropy of the classes", 0.3),),  # in bits, of log2(10) = 3.3
    )
    exam = DigitsExam()

    @property
    def space(self) -> Space:
        return Space({"steps": Integer(20, 400, log=True), "learning_rate": Real(0.01, 10.0, log=True)})

    def seed_design(self) -> Design:
        source = Path(__file__).with_name("features.py").read_text(encoding="utf-8")
        return Design(self.name, {"steps": 20, "learning_rate": 0.1}, {"features.py": source})

    def train(self, request: TrainRequest) -> Job:
        payload = {
            "design": dict(request.design.parameters),
            "source": request.design.files["features.py"],
            "seed": request.seed,
            "effort": request.effort,
        }
        return Job(request.key, SandboxKind.TRAINING, "instar_digits.work:train", payload, {}, request.limits)

    def check(self, artefact: Path) -> None:
        features = read_json(artefact / "features.json")
        if not (isinstance(features, dict) and set(features) == {"source"} and isinstance(features["source"], str)):
            raise ArtefactError("features.json: one key, 'source', with text is allowed")
        weights = read_arrays(artefact / "model.safetensors", limit=2**20).get("weights")
        if weights is None or weights.ndim != 2 or weights.shape[1] != 10 or weights.dtype != np.float32:
            raise ArtefactError("model.safetensors: 'weights' must be float32 of shape (features, 10)")


def create(options: Mapping[str, str]) -> DigitsLab:
    """Make the lab; it has no options."""
    if options:
        raise BadInput(f"lab 'digits': unknown option '{next(iter(options))}'", "It has none.")
    return DigitsLab()
