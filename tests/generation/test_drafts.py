"""What is proposed as the next tokens, by hand."""

from __future__ import annotations

from lm_eval_flips.generation.drafts import FAR, NEAR, TRIES, Draft

OTHER = list(range(100, 160))


def test_what_is_known_is_proposed_whole() -> None:
    """All tokens up to where the answers part, and nothing of them that is written already."""
    draft = Draft(OTHER, known=40)
    assert draft.propose([]) == OTHER[:40]
    assert draft.propose(OTHER[:7]) == OTHER[7:40]


def test_on_the_other_text_much_is_proposed() -> None:
    """Where nothing says that they part, FAR tokens at once."""
    draft = Draft(OTHER, known=0)
    assert draft.propose([]) == OTHER[:FAR]
    assert draft.propose(OTHER[:50]) == OTHER[50:]


def test_behind_the_parting_the_last_tokens_are_looked_up() -> None:
    """The longest that both have; of several places the nearest; none proposes nothing."""
    draft = Draft([1, 2, 3, 4, 2, 3, 5, 6, 7, 8, 9, 10, 11], known=1)
    assert draft.propose([1, 9, 2, 3]) == [4, 2, 3, 5, 6, 7]
    assert draft.propose([1, 9, 9, 9, 9, 2, 3]) == [5, 6, 7, 8, 9, 10]
    assert len(draft.propose([1, 9, 2, 3])) == NEAR
    assert draft.propose([1, 2, 0, 20, 21]) == []
    assert draft.propose([1, 2, 3, 0, 1, 2, 3]) == [4, 2, 3, 5, 6, 7]  # three, not two
    assert draft.propose([1, 9, 3]) == []  # one token is no place


def test_else_the_prompt_and_the_own_text_are_looked_up() -> None:
    """Where the other answer has no such tokens: their last place before."""
    draft = Draft([1, 2, 3, 4], known=1, prompt=[7, 8, 50, 51, 52, 7, 8, 60, 61])
    assert draft.propose([1, 9, 7, 8]) == [60, 61, 1, 9, 7, 8]
    assert draft.propose([1, 9, 7, 8, 5, 9, 7, 8]) == [5, 9, 7, 8]  # three: 9 7 8
    assert draft.propose([1, 9, 2, 3]) == [4]  # the other answer goes first
    assert Draft([1, 2, 3, 4], known=1).propose([1, 9, 7, 8]) == []


def test_proposals_that_are_seldom_kept_are_given_up() -> None:
    """After TRIES of them; those that are kept go on, and the known part never counts."""
    for kept in (False, True):
        draft = Draft(OTHER, known=3)
        written = [*OTHER[:3], 7]
        asked = 0
        for place in range(3 * TRIES):
            written += OTHER[place : place + 2]  # a place of the other answer
            proposed = draft.propose(written)
            asked += bool(proposed)
            written += proposed[:2] if kept else []
            written += [7]
        assert asked == (3 * TRIES if kept else TRIES)
