"""Groups of tasks -> the tasks at their leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def leaves_of(name: str, children: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The leaf tasks of a group, each once, in order; of a task itself. A circle adds nothing.

    Everything below is walked once, however deep it lies and however many groups share it.

    Args:
        name: a group, or a task.
        children: the tasks and groups right below each group.

    Example:
        >>> leaves_of("all", {"all": ["sciences", "law"], "sciences": ["physics", "biology"]})
        ('physics', 'biology', 'law')
    """
    leaves: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        below = children.get(node)
        if below:
            waiting.extend(reversed(below))
        else:
            leaves[node] = None
    return tuple(leaves)
