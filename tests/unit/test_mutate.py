"""Malformed inputs: the same for the same seed, and different from the specimens."""

import random

from tests.faults.mutate import LONG, MUTATIONS, malformed

SPECIMENS = [b"MAIL FROM:<a@example.com>\r\n", b"\x16\x03\x01\x00\x05hello", b"x"]


def made(seed: int) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311  # seeded, not for secrets
    return [malformed(SPECIMENS, chance) for _ in range(500)]


def test_a_seed_gives_the_same_inputs_again() -> None:
    assert made(1) == made(1)
    assert made(1) != made(2)


def test_inputs_are_many_different_ones_of_bounded_length() -> None:
    inputs = made(1)
    assert len(set(inputs)) > 400
    assert all(0 < len(text) < 5 * (LONG + 1000) for text in inputs)


def test_each_mutation_changes_something() -> None:
    for mutation in MUTATIONS:
        chance = random.Random(1)  # noqa: S311  # likewise
        assert any(mutation(SPECIMENS[0], chance) != SPECIMENS[0] for _ in range(20)), mutation
