"""Regions and the rest of torch: compiled functions, transforms, meta tensors, modules."""

import copy
import pickle

import pytest
import torch

import fusedloss as fl
from fusedloss import _program, regions
from tests.test_region_terms import (
    BOXES,
    MATRIX,
    PHOTO,
    PLANE,
    POINTS,
    operands,
    rand,
)

MASK = torch.tensor([[[True, False], [False, True]]])  # (1, 2, 2)


def test_programs_inside_compiled_functions():
    def program(target, mask):
        region = (mask & (fl.target > 0.1)) | (fl.target.isfinite() & (fl.target <= -1) & ~mask)
        program = _program.compile(region, None, target, target)
        value = target * program.constants[0] + program.region[4]
        return value, program.tensors[0], regions.as_region(mask).tensors[0]

    target, mask = torch.randn(2, 3), torch.tensor([True, False, True])
    expected = program(target, mask)
    for dynamic in (False, True):
        torch._dynamo.reset()
        compiled = torch.compile(program, backend="eager", fullgraph=True, dynamic=dynamic)
        for got, wanted in zip(compiled(target, mask), expected, strict=True):
            assert torch.equal(got, wanted)


def test_regions_from_outside_enter_compiled_functions():
    region = ~(fl.target > 0) & MASK

    def loss(input, target):
        return fl.reference.mse_loss(input, target, mask=region)

    input, target = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert torch.equal(compiled(input, target), loss(input, target))


def test_invert_inside_compiled_functions():
    """Dynamo (torch 2.13) cannot trace `~` on any Python object: without fullgraph it breaks the
    graph there and goes on; a region made outside is traced (above)."""

    def loss(input, target):
        return fl.reference.mse_loss(input, target, mask=~(fl.target > 0))

    input, target = torch.randn(4), torch.randn(4)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(loss, backend="eager")(input, target), loss(input, target))


@pytest.mark.parametrize("dynamic", (False, True))
def test_regions_are_built_inside_compiled_functions(dynamic):
    def loss(input, target, photo, boxes, points):
        region = (fl.input.var() > 0.2) & (fl.image(photo).mean() < 130) & fl.center(0.9)
        region = region | fl.boxes(boxes) | fl.keypoints(points, 1) | fl.disk(1, 1, 2)
        return fl.mse_loss(input, target, mask=region & fl.box(-1, 0, 6, 6))

    arguments = (*operands(PLANE), PHOTO, BOXES, POINTS)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True, dynamic=dynamic)
    assert torch.equal(compiled(*arguments), loss(*arguments))


def test_lengths_inside_compiled_functions():
    def loss(input, target, counts):
        return fl.mse_loss(input, target, mask=fl.lengths(counts))

    arguments = (*operands(MATRIX), torch.tensor([1, 2, 3]))
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*arguments), loss(*arguments))


def test_transforms_of_functorch():
    input, target = operands(PLANE)
    region = (fl.input.var() > 0.5) | fl.boxes(BOXES) & (fl.image(PHOTO).mean() > 100)

    def loss(input):
        return fl.mse_loss(input, target, mask=region)

    given = input.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(given), given)
    torch.testing.assert_close(torch.func.grad(loss)(input), expected)
    batch = torch.stack((input, 2 * input))
    torch.testing.assert_close(torch.vmap(loss)(batch), torch.stack([loss(x) for x in batch]))
    _, tangent = torch.func.jvp(loss, (input,), (torch.ones_like(input),))
    torch.testing.assert_close(tangent, expected.sum())

    def masked(boxes):
        return fl.mse_loss(input, target, mask=fl.boxes(boxes))

    many = torch.stack((BOXES, BOXES + 1))
    torch.testing.assert_close(torch.vmap(masked)(many), torch.stack([masked(b) for b in many]))


def test_meta_tensors():
    input = torch.empty(PLANE, device="meta")
    region = (fl.input.var() > 0.5) | fl.boxes(BOXES.to("meta")) | fl.disk(1, 1, 1)
    assert fl.mse_loss(input, input, mask=region).device.type == "meta"


# ---- modules -----------------------------------------------------------------------------------


def test_modules_keep_coordinates_and_images_in_their_dtype():
    boxes, photo = BOXES.float() + 0.3, rand(*PLANE)
    scale = rand(6, 7)
    region = (fl.boxes(boxes) | (fl.image(photo).mean() > 0.5)) & scale
    criterion = fl.MSELoss(mask=region)
    text = repr(region)
    assert f"mask={text}" in repr(criterion)
    assert not criterion.state_dict()
    input, target = operands(PLANE)
    before = criterion(input, target)
    assert torch.equal(before, fl.mse_loss(input, target, mask=region))
    dtypes = {name: buffer.dtype for name, buffer in criterion.half().named_buffers()}
    assert dtypes == {"mask_0": torch.float32, "mask_1": torch.float32, "mask_2": torch.float16}
    assert torch.equal(
        fl.region_mask(criterion.mask, input, target).nonzero(),
        fl.region_mask(region, input, target).nonzero(),
    )
    criterion.to("meta", torch.bfloat16)
    assert {buffer.device.type for buffer in criterion.buffers()} == {"meta"}
    assert criterion.mask_0.dtype is torch.float32 and criterion.mask_2.dtype is torch.bfloat16
    for other in (pickle.loads(pickle.dumps(fl.MSELoss(mask=region))), copy.deepcopy(criterion)):
        assert repr(other.mask)[:20] == text[:20]


def test_modules_intersect_with_the_mask_of_the_call():
    input, target = operands(PLANE)
    criterion = fl.L1Loss(mask=fl.center(0.7))
    got = criterion(input, target, mask=fl.input.var() > 0.5)
    wanted = fl.l1_loss(input, target, mask=fl.center(0.7) & (fl.input.var() > 0.5))
    assert torch.equal(got, wanted)
