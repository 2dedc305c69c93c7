"""The benchmark of explanations: both sides give the same answers, and the floor is one."""

import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(ROOT / "benchmarks"))

import explanations
from explanations import Case, Counter, share_equal
from floor import operations

SIZES = {"hidden_size": 48, "num_heads": 2, "num_top_layer": 3, "image_size": 96}
SIZES |= {"text_hidden_size": 48, "text_num_hidden_layers": 2, "text_num_attention_heads": 2}
SIZES |= {"text_intermediate_size": 192, "vision_width": 48, "vision_heads": 2, "vision_layers": 2}
TOKENS = 10


@pytest.fixture(scope="module")
def case():
    return Case(SIZES, TOKENS, count=2, threads=1)


@pytest.fixture(scope="module")
def found(case):
    return case.answers()


def test_the_library_gives_the_answers_of_the_plain_loop(case, found):
    answers, _ = found
    expected = case.plain()(1)
    assert len(expected) == 32
    assert expected.explode().nunique() > 3
    assert share_equal(answers, expected) > 0.99


def test_the_floor_is_near_the_operations_that_are_counted(case, found):
    _, subsets = found
    counted = []
    for work in (case.protocol, case.explain):
        with FlopCounterMode(display=False) as counter:
            work()
        counted.append(counter.get_total_flops() / 2)
    tested = counted[0] - counted[1]
    config = case.model.network.config
    least = operations(config, TOKENS, subsets, 2) - operations(config, TOKENS, Counter(), 2)
    # The counter does not see what fused attention multiplies; beyond the floor are the halves of
    # `is_worth_it`.
    assert 0.9 < tested / least < 1.2


@torch.no_grad()
def test_answers_in_bfloat16_are_nearly_the_same(case, found):
    answers, _ = found
    half, _ = case.answers("bfloat16")
    assert 0.8 < share_equal(half, answers) < 1
    assert next(case.model.parameters()).dtype == torch.float32


def test_the_tests_do_not_depend_on_the_parts(case, monkeypatch):
    keys = [*explanations.KEYS, "fraction"]
    together = case.protocol().set_index(keys)["logit"]
    monkeypatch.setattr(explanations, "AT_ONCE", 1)
    monkeypatch.setattr(explanations, "SUBSETS", 5)
    one_by_one = case.protocol().set_index(keys)["logit"].loc[together.index]
    assert len(together) == 2 * 8 * 2 * 2 * 9
    np.testing.assert_allclose(one_by_one, together, rtol=0, atol=1e-4)
