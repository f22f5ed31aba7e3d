"""Reading a compiled step: its collectives, and how long a TPU's own compiler thinks it takes.

`compiled.cost_analysis()` counts a loop's body once and knows no time for collectives (it gives
-1 second for each, so that `optimal_seconds` of a whole step is negative). The scheduled HLO text
has what is missing: the estimated cycles of every fusion, the order, where a collective starts
and where it must be done, and how often loops turn. It knows nothing of kernels: their cycles come
from `schedule.py`.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Callable

COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8} | {
    f"{sign}{bits}": max(bits // 8, 1) for sign in "su" for bits in (4, 8, 16, 32, 64)
}
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
# An array with its layout, of which S(n) says that it does not lie in main memory.
_PLACED = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?")
_UNMOVED = ("parameter", "bitcast", "tuple", "get-tuple-element", "constant", "conditional")
_PARTS = ("gather", "dynamic-slice", "slice")  # reads a part of its first operand
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name / opcode / operands: as written.
        shape: the result's, as written.
        rest: attributes and the backend's notes.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str

    def called(self, role: str) -> str | None:
        """Name of the computation that is its `body`, `condition`, `calls` or `to_apply`."""
        found = re.search(rf"\b{role}=%?([\w.\-]+)", self.rest)
        return found and found[1]


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one kind in one step.

    Attributes:
        count: how often, loops counted through.
        bytes: what one device receives in all.
    """

    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Links:
    """How fast a device counts, and exchanges with its neighbors and its memory.

    Attributes:
        clock: cycles per second, in which the compiler counts.
        ring: bytes per second that a device receives in a ring over all neighbors.
        link: bytes per second from one neighbor.
        memory: bytes per second of its own memory.
    """

    clock: float
    ring: float
    link: float
    memory: float


# 197e12 FLOP/s are 4 units of 128 x 128 at 1.5 GHz; 400 Gbit/s a link and direction, of which nine
# tenths are used; a ring uses two of the four links.
V5E = Links(clock=1.5e9, ring=90e9, link=45e9, memory=819e9)


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one step by the compiler's estimates.

    Attributes:
        total: the schedule's length, with the time in which a device waits for others.
        waiting: seconds of these spent waiting for collectives.
    """

    total: float
    waiting: float


class Module:
    """A compiled program's HLO text.

    Args:
        text: `compiled.as_text()`.
    """

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.roots: dict[str, Instruction] = {}
        self.entry = ""
        current = ""
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = head[1]
                self.computations[current] = []
                if line.startswith("ENTRY"):
                    self.entry = current
            elif current and (found := _LINE.match(line)):
                instruction = _instruction(found[2], found[3])
                self.computations[current].append(instruction)
                if found[1]:
                    self.roots[current] = instruction

    def collectives(self) -> dict[str, Traffic]:
        """What is exchanged in a step, by kind."""
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for kind, size, times in self._walk(self.entry, 1):
            counts[kind][0] += times
            counts[kind][1] += times * size
        return {kind: Traffic(*counts[kind]) for kind in sorted(counts)}

    def times(self, links: Links, kernel_cycles: Callable[[str], int]) -> Times:
        """The schedule's length: collectives run beside what lies between start and done.

        Args:
            links: of the device.
            kernel_cycles: of the kernel that is the instruction of this name.
        """
        return self._times(self.entry, links, kernel_cycles)

    def kernels(self) -> dict[str, int]:
        """Bytes that each kernel reads and writes, by the instruction's name."""
        found = [i for lines in self.computations.values() for i in lines if _is_kernel(i)]
        return {i.name: _kernel_bytes(i) for i in found}

    def moved(self) -> int:
        """Bytes of main memory that the program reads and writes.

        What lies in a chip's own memory (VMEM) counts as it is copied there. Of what is only cut or
        looked up, and of what is changed in place, the part counts. Conditionals are left out.
        """
        return self._moved(self.entry)

    def _moved(self, name: str) -> int:
        total, by_name = 0, {i.name: i for i in self.computations[name]}
        for i in self.computations[name]:
            if i.opcode in _UNMOVED or i.opcode.endswith("-done"):
                continue
            called = i.called("body") or i.called("to_apply") or i.called("calls") or ""
            if i.opcode in ("while", "call"):
                total += (self.trips(i) if i.opcode == "while" else 1) * self._moved(called)
            elif i.opcode.endswith("-start"):
                both = [place for place in _places(i.shape) if place[0] > 4]
                total += min(size for size, _ in both) * sum(here for _, here in both[:2])
            else:
                inner = self.computations[called] if i.opcode == "fusion" else [i]
                total += _written(i, inner, by_name) + sum(
                    _read(number, operand, inner, i.opcode == "fusion")
                    for number, operand in enumerate(by_name[n] for n in i.operands if n in by_name)
                )
        return total

    def _walk(self, name: str, times: int):
        for instruction in self.computations[name]:
            if kind := self._kind(instruction):
                if not instruction.opcode.endswith("-done"):
                    yield kind, self._received(instruction, kind), times
            elif instruction.opcode == "while":
                body = instruction.called("body")
                assert body is not None
                yield from self._walk(body, times * self.trips(instruction))
            elif instruction.opcode in ("call", "fusion", "async-start", "conditional"):
                for role in ("calls", "to_apply", "true_computation", "false_computation"):
                    called = instruction.called(role)
                    if called in self.computations:
                        yield from self._walk(called, times)

    def _kind(self, instruction: Instruction) -> str | None:
        base = instruction.opcode.removesuffix("-start").removesuffix("-done")
        return base if base in COLLECTIVES else None

    def _received(self, instruction: Instruction, kind: str) -> int:
        """Bytes that a device receives from others (of a ring, for reductions)."""
        devices = _group(instruction.rest)
        shapes = _sizes(instruction.shape)
        # A start's result is (inputs, outputs, ..): the outputs alone, of which all-gather's
        # are the larger and reduce-scatter's the smaller ones.
        if kind == "collective-permute":
            return max(shapes)
        whole = max(shapes) if instruction.opcode.endswith("-start") else sum(shapes)
        if kind == "reduce-scatter":
            whole = whole if instruction.opcode.endswith("-start") else whole * devices
        share = whole * (devices - 1) // max(devices, 1)
        return 2 * share if kind == "all-reduce" else share

    def trips(self, loop: Instruction) -> int:
        """How often a loop turns; 1 if it cannot be told."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return int(known[1])
        condition, body = loop.called("condition"), loop.called("body")
        if condition is None or body is None:
            return 1
        by_name = {i.name: i for i in self.computations[condition]}
        compare = self.roots[condition]
        if compare.opcode != "compare" or len(compare.operands) != 2:
            return 1
        counter, limit = (by_name.get(name) for name in compare.operands)
        if counter is None or limit is None or limit.opcode != "constant":
            return 1
        index = re.search(r"index=(\d+)", counter.rest)
        if not index:
            return 1
        bound = int(limit.operands[0])
        return max(1, math.ceil(bound / self._increment(body, int(index[1]))))

    def _increment(self, body: str, index: int) -> int:
        """What a turn adds to the counter at `index` of the loop's tuple."""
        by_name = {i.name: i for i in self.computations[body]}
        root, total = self.roots[body], 0
        if index >= len(root.operands):
            return 1
        value = by_name.get(root.operands[index])
        while value is not None and value.opcode in ("add", "copy", "bitcast"):
            step = next((by_name[n] for n in value.operands[1:] if n in by_name), None)
            if value.opcode == "add" and step is not None:
                while step.opcode in ("copy", "bitcast"):
                    step = by_name[step.operands[0]]
                total += int(step.operands[0]) if step.opcode == "constant" else 1
            value = by_name.get(value.operands[0])
        return max(total, 1)

    def _times(self, name: str, links: Links, kernel_cycles: Callable[[str], int]) -> Times:
        clock = waiting = 0.0
        free = 0.0  # when the links are
        ends: dict[str, float] = {}
        for i in self.computations[name]:
            kind = self._kind(i)
            if kind and i.opcode.endswith("-done"):
                end = ends.get(i.operands[0], clock)
                waiting += max(end - clock, 0)
                clock = max(clock, end)
            elif kind:
                speed = links.link if kind == "collective-permute" else links.ring
                # Permutes to both sides use links of their own.
                start = clock if kind == "collective-permute" else max(clock, free)
                end = start + self._received(i, kind) / speed
                if i.opcode.endswith("-start"):
                    ends[i.name] = end
                    free = end if kind != "collective-permute" else free
                else:
                    waiting += end - clock
                    clock = free = end
            elif i.opcode == "while":
                inner = self._times(i.called("body") or "", links, kernel_cycles)
                turns = self.trips(i)
                clock += turns * inner.total
                waiting += turns * inner.waiting
            elif i.opcode == "call" and (called := i.called("to_apply")):
                inner = self._times(called, links, kernel_cycles)
                clock, waiting = clock + inner.total, waiting + inner.waiting
            elif _is_kernel(i):
                moved = _kernel_bytes(i) / links.memory
                clock += max(kernel_cycles(i.name) / links.clock, moved)
            else:
                clock += _cycles(i) / links.clock
        return Times(clock, waiting)


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape, after = text[:end], text[end:].strip()
    opening = after.index("(")
    closing = _closing(after, opening)
    inside = after[opening + 1 : closing - 1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside)) or (inside,)
    return Instruction(name, after[:opening], shape, operands, after[closing:])


def _closing(text: str, opening: int) -> int:
    """Index after the bracket that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i + 1
    return len(text)


def _sizes(shape: str) -> list[int]:
    """Bytes of every array of a shape."""
    return [
        math.prod(int(n) for n in dims.split(",") if n) * _BYTES.get(kind, 0)
        for kind, dims in _SHAPE.findall(shape)
    ] or [0]


def _places(shape: str) -> list[tuple[int, bool]]:
    """Bytes of every array of a shape, and whether it lies in main memory."""
    return [
        (sum(_sizes(f"{kind}[{dims}]")), "S(" not in layout)
        for kind, dims, layout in _PLACED.findall(shape)
    ]


def _in_memory(shape: str) -> int:
    return sum(size for size, here in _places(shape) if here)


def _written(i: Instruction, inner: list[Instruction], by_name: dict[str, Instruction]) -> int:
    """Of an instruction's results; `inner` is its computation."""
    changed = [x for x in inner if x.opcode == "dynamic-update-slice"]
    if not changed or not _in_memory(i.shape):
        return _in_memory(i.shape)
    shapes = {x.name: x.shape for x in inner} | {name: x.shape for name, x in by_name.items()}
    return sum(sum(_sizes(shapes[x.operands[1]])) for x in changed)


def _read(number: int, operand: Instruction, inner: list[Instruction], fused: bool) -> int:
    """Of an operand; `inner` is the computation in which it is used."""
    whole = _in_memory(operand.shape)
    name = operand.name
    if fused:
        name = next(
            (x.name for x in inner if x.opcode == "parameter" and x.operands == (str(number),)), ""
        )
    users = [x for x in inner if name in x.operands]
    first = bool(users) and all(x.operands[0] == name for x in users)
    if whole and first and all(x.opcode in _PARTS for x in users):
        return min(whole, sum(sum(_sizes(x.shape)) for x in users))
    if whole and first and all(x.opcode == "dynamic-update-slice" for x in users):
        return 0
    return whole


def _group(rest: str) -> int:
    """Devices that take part in one collective together."""
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
        return int(found[2])
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'([^']+)'", found[2]))
    return 1


def _is_kernel(instruction: Instruction) -> bool:
    return 'custom_call_target="tpu_custom_call"' in instruction.rest


def _kernel_bytes(instruction: Instruction) -> int:
    """Of its operands and results, each once."""
    operands = re.search(r"operand_layout_constraints=\{(.*?)\}, \w+=", instruction.rest)
    return sum(_sizes(instruction.shape)) + sum(_sizes(operands[1] if operands else ""))


def _cycles(instruction: Instruction) -> int:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.rest)
    return int(found[1]) if found else 0
