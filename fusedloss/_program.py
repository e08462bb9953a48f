"""The programs that the kernels run for a region and a weight source: their instructions, limits,
and how they are put together. ``csrc/regions/program.h`` interprets the same opcodes.

    expression.emit(assembler)        # appends instructions; the deeper operand comes first
    compile(region, source, ...)      # both programs and all that they read, or None
"""

from typing import NamedTuple

from torch import Tensor

# Four integers each (opcode, a, b, c), for a stack machine. `number` is an index into `constants`
# (or the first of several), tensors, images and tables are counted from 0 in each kind.
TENSOR = 0  # push the mask value of tensor a
TARGET_COMPARE = 1  # push target <a> number c; b = domain (INT64: c is the integer itself)
TARGET_ISFINITE = 2  # push isfinite(target)
AND = 3  # pop two, push the product (0 where either is 0)
OR = 4  # pop two, push the larger
NOT = 5  # replace the top by 1 where it is 0, else 0
VARIANCE = 6  # push variance <a> number c; number c + 1 is the correction
IMAGE_MEAN = 7  # push mean of image b <a> number c
CENTER = 8  # number c: the fraction
BOX = 9  # numbers c...: the lower corner x, y(, z), then the upper
BOXES = 10  # table a
DISK = 11  # numbers c...: the centre, then the radius
DISKS = 12  # table a
KEYPOINTS = 13  # table a, number c: the radius
LENGTHS = 14  # table a
NUMBER = 15  # push number c
WEIGHT = 16  # push the value of tensor a
ADD = 17  # pop two, push the sum
SUBTRACT = 18  # pop two, push below - top (a = 1: top - below)
DIVIDE = 19  # pop two, push below / top
EDGES_FORWARD = 20  # push g of image a
EDGES_SOBEL = 21  # push g of image a
ACTIVATION = 22  # push g of image a
BOUNDARY = 23  # labels = image a, radius b, numbers c (inside) and c + 1 (outside)
NORMALIZE = 24  # the top by range a; the instructions that yield it begin with number b

MAX_INSTRUCTIONS = 32  # of each program
MAX_DEPTH = 6
MAX_TENSORS = 8
MAX_IMAGES = 4
MAX_TABLES = 4
MAX_CONSTANTS = 48
MAX_RANGES = 4
MAX_SPATIAL = 4
MAX_RADIUS = (1 << 31) - 1  # beyond every image's size


class Program(NamedTuple):
    """What the kernels take: four integers per instruction, and what the instructions read.

    `tensors` are masks and weights, which broadcast to `input`; `images` (also features and labels)
    are (N or 1, channels, spatial dims); `tables` are coordinates and lengths.
    """

    region: tuple[int, ...] = ()
    source: tuple[int, ...] = ()
    constants: tuple[float, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    images: tuple[Tensor, ...] = ()
    tables: tuple[Tensor, ...] = ()


NOTHING = Program()


class Assembler:
    """Collects the instructions of a call's programs; `ok` turns False where a term has none."""

    def __init__(self, input: Tensor, target: Tensor):
        self.input = input
        self.target = target
        self.code: list[int] = []
        self.constants: list[float] = []
        self.tensors: list[Tensor] = []
        self.images: list[Tensor] = []
        self.tables: list[Tensor] = []
        self.ranges = 0
        self.reserved = 0
        self.ok = True

    @property
    def position(self) -> int:
        """The number of the instruction that comes next."""
        return len(self.code) // 4

    def instruction(self, opcode: int, a: int = 0, b: int = 0, c: int = 0) -> None:
        self.code += [opcode, a, b, c]

    def constant(self, *values: float) -> int:
        """The index of the first of these numbers."""
        self.constants += values
        return len(self.constants) - len(values)

    def reserve(self, count: int) -> None:
        """Room among the constants for numbers that the kernels add."""
        self.reserved += count

    def tensor(self, tensor: Tensor) -> int:
        """The index of a mask or weight; one that appears twice is passed, and read, once."""
        return _index(self.tensors, tensor)

    def image(self, tensor: Tensor) -> int:
        return _index(self.images, tensor)

    def table(self, tensor: Tensor) -> int:
        return _index(self.tables, tensor)

    def normalize(self, begin: int) -> None:
        """Normalises what the instructions from number `begin` on yield."""
        self.instruction(NORMALIZE, self.ranges, begin)
        self.ranges += 1

    def taken(self) -> tuple[int, ...]:
        """The instructions so far; the next program begins."""
        code, self.code = tuple(self.code), []
        return code

    def fits(self) -> bool:
        return (
            self.ok
            and len(self.constants) + self.reserved <= MAX_CONSTANTS
            and len(self.tensors) <= MAX_TENSORS
            and len(self.images) <= MAX_IMAGES
            and len(self.tables) <= MAX_TABLES
            and self.ranges <= MAX_RANGES
        )


def compile(region, source, input: Tensor, target: Tensor) -> Program | None:
    """The programs of a region and a weight source (or None) for these operands; None where the
    kernels cannot run them."""
    assembler = Assembler(input, target)
    code = []
    for expression in (region, source):
        if expression is not None:
            if expression.size > MAX_INSTRUCTIONS or expression.depth > MAX_DEPTH:
                return None
            expression.emit(assembler)
        code.append(assembler.taken())
    if not assembler.fits():
        return None
    return Program(
        code[0],
        code[1],
        tuple(assembler.constants),
        tuple(assembler.tensors),
        tuple(assembler.images),
        tuple(assembler.tables),
    )


def _index(tensors: list[Tensor], tensor: Tensor) -> int:
    for index, known in enumerate(tensors):
        if known is tensor:
            return index
    tensors.append(tensor)
    return len(tensors) - 1
