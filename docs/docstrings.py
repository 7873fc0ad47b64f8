"""What the reference makes of docstrings beyond mkdocstrings, for mkdocs.yml."""

import griffe


class Docstrings(griffe.Extension):
    """Has griffe read `Example:`, which it takes for a remark, as its own `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Change one docstring."""
        if obj.name.startswith("__") or (obj.is_attribute and "property" not in obj.labels):
            obj.docstring = None  # Python's own, or that of its value's type, such as `int`: they are not shown
        elif obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
