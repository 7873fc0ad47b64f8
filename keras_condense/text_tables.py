"""Tables as text, for the `str` of what this package measures."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["render"]


def render(table: "Table", width: int) -> str:
    """A table as text, without the line break at its end.

    Args:
        table: rich's table.
        width: the most characters a line may have.

    Returns:
        Lines without colours.

    Example:
        >>> from rich import box
        >>> from rich.table import Table
        >>> table = Table("layer", "macs", box=box.ASCII)
        >>> table.add_row("conv", "3,888")
        >>> print(render(table, width=40))
        +---------------+
        | layer | macs  |
        |-------+-------|
        | conv  | 3,888 |
        +---------------+
    """
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue().rstrip()
