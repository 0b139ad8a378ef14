"""Tensor shapes for annotations, checked only under test.

jaxtyping is a test dependency: where it is missing the names are empty, which does no harm
because nothing evaluates an annotation then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ModuleNotFoundError:
        Bool = Float = Int = dict[str, Any]
