"""What a configuration costs before it is run: parameters, operations, memory of each device."""

import dataclasses
import re
import time
from collections import Counter
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh
from sa0_kernels import dispatch, targets

from sa0_jax.generator.generator import Rig, RigArrays, abstract_generator
from sa0_jax.generator.vit import looping
from sa0_jax.head.registry import load_head
from sa0_jax.losses.lpips import zero_lpips
from sa0_jax.train import parallel
from sa0_jax.train.config import PhaseConfig, TrainConfig
from sa0_jax.train.example import example_batch
from sa0_jax.train.objective import Batch, predict
from sa0_jax.train.phases import Phase
from sa0_jax.train.step import TrainState, frozen_parameters, make_trainer

PROGRAMS = ('forward', 'phase1', 'phase2')
# What XLA is told: plan memory and transfers as ever, spend no time on the order of instructions.
_QUICK = {'exec_time_optimization_effort': -1.0}
# A transfer beside other work has a start and an end; it is one.
_COLLECTIVES = re.compile(
  r' (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(?:-start)?\('
)


@dataclasses.dataclass(frozen=True)
class ModuleSize:
  """One part of the network.

  Attributes:
    name: 'encoder', 'dpt', …
    parameters: numbers in it.
    trained1, trained2: of them, in Phase 1 and in Phase 2.
  """

  name: str
  parameters: int
  trained1: int
  trained2: int


@dataclasses.dataclass(frozen=True)
class ProgramSize:
  """A compiled program, for each device; sizes are what the compiler planned, nothing was run.

  Attributes:
    name: 'forward': portraits to images, as Phase 1 computes them; 'phase1', 'phase2': a whole
      training step of the phase.
    machine: what it was compiled for, and how many devices.
    devices: their number.
    implementation: rasterizer.
    batch_size: targets over all devices.
    flops: floating-point operations of all devices together as XLA counts them before it optimises;
      our kernels are not in it. None where XLA does not say.
    argument_bytes: state, batch and head.
    temporary_bytes: what it needs beside.
    peak_bytes: arguments, results, temporary and code.
    memory_bytes: what a device has; None for this machine's.
    collectives: transfers between devices, by kind.
    compile_seconds: tracing and compiling, on this machine.
    quick: whether the compiler was told not to polish the code.
  """

  name: str
  machine: str
  devices: int
  implementation: str
  batch_size: int
  flops: float | None
  argument_bytes: int
  temporary_bytes: int
  peak_bytes: int
  memory_bytes: int | None
  collectives: dict[str, int]
  compile_seconds: float
  quick: bool = False

  @property
  def fits(self) -> bool | None:
    """Whether it fits the device; None where its memory is not known."""
    return None if self.memory_bytes is None else self.peak_bytes <= self.memory_bytes


def module_sizes(config: TrainConfig) -> list[ModuleSize]:
  """Parameters of each part of the network."""
  generator = abstract_generator(config.generator)

  def trained(phase: PhaseConfig) -> Counter[str]:
    return _count(nnx.split(generator, frozen_parameters(phase.train_encoder), ...)[2])

  sizes, one, two = _count(nnx.state(generator)), trained(config.phase1), trained(config.phase2)
  return [ModuleSize(name, size, one[name], two[name]) for name, size in sizes.items()]


def _count(state: Any) -> Counter[str]:
  """Numbers in each part of the network."""
  sizes: Counter[str] = Counter()
  for where, parameter in nnx.to_flat_state(state):
    sizes[str(where[0])] += parameter.size
  return sizes


def compile_program(
  name: str, config: TrainConfig, machine: targets.Target | None = None, quick: bool = False
) -> ProgramSize:
  """Compiles one program for a machine, which need not be there.

  Args:
    name: one of `PROGRAMS`.
    config: what is run, a phase's `batch_size` over all devices of the machine.
    machine: from `sa0_kernels.targets.target`; None is this one.
    quick: leave the code as it first comes. Most of the time of XLA's compiler for TPUs goes into
      the order of instructions, and nothing that is reported here depends on that.

  Raises:
    ValueError: no such program, or the batch cannot be spread over the devices.
  """
  if name not in PROGRAMS:
    raise ValueError(f'compile_program: one of {", ".join(PROGRAMS)}, got {name!r}')
  mesh = parallel.make_mesh(None if machine is None else machine.devices, config.fsdp)
  phase = _phase(name, config)
  platform = mesh.devices.flat[0].platform
  with dispatch.allow_other_platforms(), looping(platform == 'tpu'):
    # By name: what is chosen unasked depends on the machine this runs on.
    goal = phase.config.objective
    chosen = goal.implementation or dispatch.preferred(
      'rasterize', None if machine is None else machine.platform
    )
    goal = dataclasses.replace(goal, implementation=chosen)
    phase = phase._replace(config=dataclasses.replace(phase.config, objective=goal))
    begin = time.perf_counter()
    shapes = _shapes(config, phase)
    lowered = _lower(name, config, phase, mesh, shapes)
    # Without a GPU to try them on, XLA's tile sizes for its own Triton products are guesses, and
    # for some shapes it finds none; the libraries' products need none.
    gpu = machine is not None and machine.platform == 'gpu'
    options = {'xla_gpu_enable_triton_gemm': False} if gpu else {}
    compiled = lowered.compile(options | (_QUICK if quick else {}))
    seconds = time.perf_counter() - begin
    # XLA counts for CPUs alone, and for one of them; of a loop, one turn.
    plain = mesh.size == phase.config.accumulate == 1 and platform == 'cpu'
    flops = _counted(lowered) if plain else count_flops(config, phase, name)
  memory = compiled.memory_analysis()
  return ProgramSize(
    name=name,
    machine=_describe(mesh, machine),
    devices=mesh.size,
    implementation=chosen,
    batch_size=phase.config.batch_size,
    flops=flops,
    argument_bytes=memory.argument_size_in_bytes,
    temporary_bytes=memory.temp_size_in_bytes,
    peak_bytes=_peak(memory),
    memory_bytes=None if machine is None else machine.memory,
    collectives=count_collectives(compiled.as_text()),
    compile_seconds=seconds,
    quick=quick,
  )


def count_flops(config: TrainConfig, phase: Phase, name: str = 'step') -> float | None:
  """Floating-point operations of a phase's program for the whole batch; None where XLA is silent.

  XLA counts for the platform it runs on and not for others, so it is asked about one CPU; before it
  optimises, and without our kernels.

  Args:
    config: the run.
    phase: whose batch it is.
    name: 'forward', or anything else for the step.
  """
  mesh = parallel.make_mesh(jax.devices('cpu')[:1])
  # In one part, block by block: XLA counts what a loop repeats once.
  phase = phase._replace(config=dataclasses.replace(phase.config, accumulate=1))
  with looping(False):
    return _counted(_lower(name, config, phase, mesh, _shapes(config, phase)))


def count_collectives(program: str) -> dict[str, int]:
  """Transfers between devices by kind, in a compiled program's text."""
  return dict(Counter(_COLLECTIVES.findall(program)))


def _counted(lowered: Any) -> float | None:
  counted = lowered.cost_analysis()
  return None if counted is None else float(counted['flops'])


def _peak(memory: Any) -> int:
  """Bytes in use at once; donated arguments become results."""
  results = memory.output_size_in_bytes - memory.alias_size_in_bytes
  at_once = memory.argument_size_in_bytes + results + memory.temp_size_in_bytes
  return at_once + memory.generated_code_size_in_bytes


def _describe(mesh: Mesh, machine: targets.Target | None) -> str:
  return f'this machine ({mesh.devices.flat[0].device_kind})' if machine is None else machine.name


def _phase(name: str, config: TrainConfig) -> Phase:
  """The phase a program is of, whether or not the run has steps of it."""
  number = 2 if name == 'phase2' else 1
  return Phase(number, config.phase2 if number == 2 else config.phase1, 0)


def _shapes(config: TrainConfig, phase: Phase) -> tuple[Batch, RigArrays]:
  """Of a batch and the head."""
  head = load_head()
  return (
    jax.eval_shape(lambda: example_batch(config.generator, head, phase.config.batch_size)),
    jax.eval_shape(lambda: Rig.from_head(head, config.generator).arrays),
  )


def _lower(
  name: str, config: TrainConfig, phase: Phase, mesh: Mesh, shapes: tuple[Batch, RigArrays]
) -> Any:
  """The traced program."""
  batch, rig = shapes
  trainer, goal = make_trainer(config, phase, mesh), phase.config.objective
  if name != 'forward':
    perceptual = jax.eval_shape(zero_lpips) if goal.weights.lpips else None
    return trainer.step.lower(trainer.shapes, batch, rig, perceptual)

  def local(state: TrainState, batch: Batch, rig: RigArrays) -> jax.Array:
    return predict(trainer.generator(state), batch, rig, goal).output.features

  spread = parallel.over_batch(mesh, local, (False, True, False), spread_result=True)
  whole, parts = parallel.replicated(mesh), parallel.spread(mesh)
  where = jax.tree.map(lambda leaf: leaf.sharding, trainer.shapes)
  return jax.jit(spread, in_shardings=(where, parts, whole), out_shardings=parts).lower(
    trainer.shapes, batch, rig
  )
