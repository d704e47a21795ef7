"""What a plan trains, and what it refuses."""

import dataclasses

import pytest

from substrate_jax.analyses.distill.plan import TARGETS, Condition, Plan, check_plan
from substrate_jax.training.distillation import METHODS

PLAN = Plan(
    methods=("ce", "debiased_cka", "cka", "mse", "kd"),
    targets=("substrate", "labels", "shuffled"),
    teacher="mini_vit_base",
    weights=(0.3, 1.0),
    fractions=(0.01, 0.1),
    epochs=(9, 4),
    rates=(0.1,),
    seeds=(0, 1, 2),
    batch_size=8,
    components=4,
)


def changed(**options):
    return dataclasses.replace(PLAN, **options)


def test_everything_is_compared_at_the_main_share_and_the_substrate_at_all():
    assert PLAN.main == 0.1
    assert [(one.method, one.target) for one in PLAN.conditions(0.01)] == [
        ("ce", ""),
        ("debiased_cka", "substrate"),
    ]
    main = PLAN.conditions(0.1)
    assert {one.epochs for one in main} == {4}
    assert [(one.method, one.target, one.weight) for one in main] == [
        ("ce", "", 0.0),
        ("debiased_cka", "substrate", 1.0),
        ("debiased_cka", "labels", 1.0),
        ("debiased_cka", "shuffled", 1.0),
        ("debiased_cka", "substrate", 0.3),
        ("cka", "substrate", 1.0),
        ("cka", "substrate", 0.3),
        ("mse", "substrate", 1.0),
        ("kd", "mini_vit_base", 1.0),
    ]
    assert PLAN.count() == (2 + 9) * 3
    assert changed(rates=(0.1, 0.3)).count() == (2 + 9) * 4
    assert changed(fractions=(0.5, 1.0)).main == 0.5


def test_keys_name_conditions_apart_and_are_file_names():
    plan = changed(
        methods=tuple(METHODS), targets=(*TARGETS, "encoder:a/b"), fractions=(0.1, 1), epochs=(4, 4)
    )
    conditions = [one for fraction in plan.fractions for one in plan.conditions(fraction)]
    keys = [one.key for one in conditions]
    assert len(set(keys)) == len(keys)
    assert Condition("cka", "encoder:a/b", 0.3, 0.1, 4).key == "cka_encoder_a_b_0.3_0.1_4"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("ce", "crd")}, "methods: 'crd' is none of ce, "),
        ({"teacher": ""}, "methods: 'kd' needs --teacher"),
        ({"targets": ("substrates",)}, "targets: 'substrates' is none of substrate, "),
        ({"weights": (1.0, -1.0)}, "weights: -1: give numbers above 0"),
        ({"weights": (float("inf"),)}, "weights: inf: give numbers above 0"),
        ({"fractions": (0.1, 1.5)}, "fractions: 1.5: give numbers above 0, at most 1"),
        ({"rates": (float("nan"),)}, "rates: nan: give numbers above 0"),
        ({"rates": (0.1, 0.1)}, "rates: give at least one, and none twice"),
        ({"epochs": (1,)}, "epochs: 1 numbers for 2 fractions; give as many"),
        ({"epochs": (1, 0)}, "epochs: 0: give 1 or more"),
        ({"seeds": (0,)}, "seeds=1: give 2 or more"),
        ({"batch_size": 3}, "batch_size=3: a CKA loss needs batches of 4 or more"),
    ],
)
def test_bad_plans_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_plan(changed(**changes))


def test_a_good_plan_is_not():
    check_plan(PLAN)
    check_plan(changed(teacher="", methods=("ce",)))
