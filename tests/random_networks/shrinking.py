"""Programs that fail made as small as they still fail."""

import dataclasses
import re

from random_networks.checking import check
from random_networks.programs import Program, needed
from random_networks.settings import Setting


def _smaller(program: Program):
    """Programs with less in them: held more plainly, another output, a line left out, a smaller image."""
    for field in dataclasses.fields(Setting):
        if getattr(program.setting, field.name) != field.default:
            yield dataclasses.replace(
                program, setting=dataclasses.replace(program.setting, **{field.name: field.default})
            )
    names = [line.split(" = ")[0] for line in program.lines]
    tensors = [name for name in names if re.fullmatch(r"x\d+", name)]
    for name in tensors:
        yield dataclasses.replace(program, outputs=(name,), lines=needed(program.lines, (name,)))
    for number, line in enumerate(program.lines):
        name, expression = line.split(" = ", 1)
        if name not in tensors:
            continue
        for source in dict.fromkeys(re.findall(r"\b(?:x\d+(?:inner)?|image\d)\b", expression)):
            rest = [re.sub(rf"\b{name}\b", source, other) for other in program.lines[number + 1 :]]
            outputs = tuple(dict.fromkeys(source if output == name else output for output in program.outputs))
            lines = needed((*program.lines[:number], *rest), outputs)
            yield dataclasses.replace(program, lines=lines, outputs=outputs)
    for old, new in [
        (r"activation='\w+'", "activation=None"),
        (r", use_bias=True", ""),
        (r"dilation_rate=[^,)]*", "dilation_rate=1"),
    ]:
        for number, line in enumerate(program.lines):
            if (changed := re.sub(old, new, line)) != line:
                lines = (*program.lines[:number], changed, *program.lines[number + 1 :])
                yield dataclasses.replace(program, lines=lines)


def _size(program: Program) -> int:
    settings = dataclasses.astuple(program.setting)
    odd = sum(value != plain for value, plain in zip(settings, dataclasses.astuple(Setting()), strict=True))
    return sum(map(len, program.lines)) + 10 * len(program.outputs) + 10 * odd


def shrunk(program: Program, fails) -> Program:
    """A program with as little in it as still fails."""
    while True:
        for smaller in _smaller(program):
            if _size(smaller) < _size(program) and fails(smaller):
                program = smaller
                break
        else:
            return program


def still_fails(failure: str):
    """Whether a program fails in the same way: a wrong number, or the same error."""
    kind = failure.split(":")[0] if "Error" in failure.split(":")[0] else ""

    def fails(program: Program) -> bool:
        again = check(program).failure
        if kind:
            return again.startswith(kind) and failure[:60] == again[:60]
        return bool(again) and "Error" not in again.split(":")[0] and "not finite" not in again

    return fails
