"""What a worker keeps from one job to the next."""

from dataclasses import replace

import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.process.worker import _Kept


def case_of(function: object = torch.sin, mode: str = "inference", **knobs: object) -> Case:
    setting = Setting("onnxruntime", tuple(sorted(knobs.items())), mode)
    return capture(function, lambda: [torch.ones(3)], setting=setting)


def test_other_settings_of_one_program_share_what_a_target_keeps() -> None:
    kept = _Kept()
    first = kept.of(case_of())
    first["onnx"] = "model"
    assert kept.of(case_of(optimization="NONE")) is first
    assert kept.of(case_of(optimization="NONE", saved="ort")) is first


def test_a_setting_that_comes_again_begins_anew() -> None:
    kept = _Kept()
    first = kept.of(case_of())
    again = kept.of(case_of())
    assert again is not first
    assert kept.of(case_of(optimization="NONE")) is again
    assert kept.of(case_of()) is not again


def test_another_program_mode_or_value_shares_nothing() -> None:
    case = case_of()
    other_values = replace(
        case, input_sets=capture(torch.sin, lambda: [torch.zeros(3)], setting=case.setting).input_sets
    )
    for other in (case_of(torch.cos), case_of(mode="training"), other_values):
        kept = _Kept()
        first = kept.of(case)
        assert kept.of(other) is not first
        assert kept.of(case_of(optimization="NONE")) is not first
