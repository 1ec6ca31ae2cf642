"""Which processes train together: the only place that calls jax.distributed.

One process runs on its own and needs none of this. Several find each other through a coordinator,
process 0, whose address, their number and its own number each must know: from flags or SA0_*
variables, from SLURM, from a JobSet on GKE, or, on TPUs, from JAX itself.
"""

import dataclasses
import re
import socket
import time
from collections.abc import Mapping
from typing import Literal

import jax

PORT = 8476  # of the coordinator where nobody else has a say
_SLURM = ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')
_MANUAL = {
  'coordinator': ('--coordinator', 'SA0_COORDINATOR'),
  'processes': ('--processes', 'SA0_PROCESSES'),
  'process': ('--process', 'SA0_PROCESS'),
}


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The processes of a run, as one of them sees it.

  Attributes:
    coordinator: 'host:port' of process 0; None where there is no other process, and where JAX finds
      it itself (TPUs).
    processes: their number; 1 for TPUs until `initialize` has returned, for JAX alone knows it.
    process: which one this is, from 0.
    source: who said so; 'none' is a process on its own.
    local_devices: numbers of the GPUs this process takes; None takes all it sees.
  """

  coordinator: str | None = None
  processes: int = 1
  process: int = 0
  source: Literal['none', 'manual', 'slurm', 'gke', 'tpu'] = 'none'
  local_devices: tuple[int, ...] | None = None

  def __post_init__(self) -> None:
    if not 0 <= self.process < self.processes:
      raise ValueError(
        f'cluster ({self.source}): process {self.process} of {self.processes}: processes are '
        f'numbered 0 to {self.processes - 1}'
      )
    if self.coordinator is not None:
      _host_and_port(self.coordinator)
    elif self.processes > 1:
      raise ValueError(
        f'cluster ({self.source}): {self.processes} processes need a coordinator, the HOST:PORT '
        'of process 0'
      )


def find_cluster(
  environ: Mapping[str, str],
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> Cluster:
  """What the flags, or the variables that launchers set, say.

  Flags and SA0_COORDINATOR, SA0_PROCESSES, SA0_PROCESS come first, a flag before its variable; then
  TPUs, a JobSet (the variables `launch/gke/jobset.yaml` sets), and a SLURM step. SA0_CLUSTER=none
  looks at none of these three, SA0_CLUSTER=tpu says that these are TPUs.

  Args:
    environ: `os.environ`, read after jax is imported: JAX leaves word there that it saw TPUs.
    coordinator: 'host:port' of process 0.
    processes: their number.
    process: which one this is, from 0.

  Raises:
    ValueError: something is missing, or is no number.
  """
  flags = {'coordinator': coordinator, 'processes': processes, 'process': process}
  if any(flags[name] is not None or environ.get(_MANUAL[name][1]) for name in flags):
    return _manual(environ, flags)
  asked = environ.get('SA0_CLUSTER', '')
  if asked not in ('', 'none', 'tpu'):
    raise ValueError(f"SA0_CLUSTER is 'none' or 'tpu', got {asked!r}")
  if asked == 'none':
    return Cluster()
  if asked == 'tpu' or _on_tpus(environ):
    return Cluster(source='tpu')
  if environ.get('JOBSET_NAME') and environ.get('JOB_COMPLETION_INDEX'):
    return _gke(environ)
  # A batch script or a shell inside a job has no step: it is one process, whatever was asked for.
  if all(name in environ for name in _SLURM):
    return _slurm(environ)
  return Cluster()


def _manual(environ: Mapping[str, str], flags: Mapping[str, str | int | None]) -> Cluster:
  values = {}
  for name, (_, variable) in _MANUAL.items():
    given = flags[name]
    values[name] = environ.get(variable, '') if given is None else str(given)
  for name, (flag, variable) in _MANUAL.items():
    # One process needs no coordinator.
    if not values[name] and not (name == 'coordinator' and values['processes'] == '1'):
      raise ValueError(
        f'several processes: {flag} (or {variable}) is missing; all three of --coordinator '
        'HOST:PORT, --processes N and --process I are needed'
      )
  return Cluster(
    values['coordinator'] or None,
    _number(values['processes'], '--processes'),
    _number(values['process'], '--process'),
    'manual',
  )


def _on_tpus(environ: Mapping[str, str]) -> bool:
  """Whether JAX will find other hosts with TPUs, or at least ask the machine for them."""
  if environ.get('JAX_PLATFORMS', '').split(',')[0] not in ('', 'tpu'):
    return False
  hosts = environ.get('TPU_PROCESS_ADDRESSES') or environ.get('TPU_WORKER_HOSTNAMES') or ''
  if ',' in hosts or environ.get('MEGASCALE_COORDINATOR_ADDRESS'):
    return True
  # A TPU VM says nothing in its environment. JAX marks that it saw TPUs, and that it must not ask
  # the machine's metadata for them.
  return (
    environ.get('TPU_ML_PLATFORM') == 'JAX'
    and 'TPU_SKIP_MDS_QUERY' not in environ
    and not hosts  # one name: a single host on GKE
  )


def _gke(environ: Mapping[str, str]) -> Cluster:
  count = environ.get('JOBSET_PROCESSES') or environ.get('NNODES')  # ours, xpk's
  job = environ.get('REPLICATED_JOB_NAME')
  if not count or not job:
    raise ValueError(
      'JobSet: JOBSET_PROCESSES or REPLICATED_JOB_NAME is not set; launch/gke/jobset.yaml sets '
      'both, SA0_CLUSTER=none runs without other processes'
    )
  name = environ['JOBSET_NAME']
  return Cluster(
    # Pods are called jobset-job-index-pod, under a service called as the JobSet.
    f'{name}-{job}-0-0.{name}:{environ.get("JAX_COORDINATOR_PORT") or PORT}',
    _number(count, 'JOBSET_PROCESSES'),
    _number(environ['JOB_COMPLETION_INDEX'], 'JOB_COMPLETION_INDEX'),
    'gke',
  )


def _slurm(environ: Mapping[str, str]) -> Cluster:
  """As JAX reads a SLURM step, but for the GPUs.

  JAX gives each process of a step the one GPU of its number on the node, and so of a process that
  has a node for itself the first GPU only.
  """
  processes = _number(environ['SLURM_NTASKS'], 'SLURM_NTASKS')
  if processes == 1:
    return Cluster()
  # The port follows from the job, so that two jobs on a node rarely meet: JAX's own rule.
  job = _number(environ['SLURM_JOB_ID'], 'SLURM_JOB_ID')
  port = environ.get('JAX_COORDINATOR_PORT') or str(65535 - 2**12 + 1 + job % 2**12)
  return Cluster(
    f'{_first_host(environ["SLURM_STEP_NODELIST"])}:{port}',
    processes,
    _number(environ['SLURM_PROCID'], 'SLURM_PROCID'),
    'slurm',
    _slurm_devices(environ),
  )


def _first_host(nodes: str) -> str:
  """The first of a SLURM node list: 'node[007-015,020],other3' is node007, …"""
  found = re.match(r'([\w.-]+)(?:\[(\w+)[^\]]*\]([\w.-]*))?(?:,|$)', nodes)
  if not found:
    raise ValueError(f'SLURM_STEP_NODELIST: no host in {nodes!r}')
  return ''.join(part or '' for part in found.groups())


def _slurm_devices(environ: Mapping[str, str]) -> tuple[int, ...] | None:
  """This process's share of the GPUs it sees."""
  local = _number(environ['SLURM_LOCALID'], 'SLURM_LOCALID')
  tasks = _tasks_on_node(environ)
  if tasks == 1:
    return None
  visible = [n for n in environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if n]
  if not visible:
    return (local,)
  if len(visible) == 1:  # SLURM has bound each task to its own
    return None
  share, rest = divmod(len(visible), tasks)
  if rest:
    raise ValueError(
      f'SLURM: {tasks} tasks on a node cannot share {len(visible)} GPUs equally: take one task per '
      'node, or one per GPU (--ntasks-per-node)'
    )
  return tuple(range(local * share, (local + 1) * share))


def _tasks_on_node(environ: Mapping[str, str]) -> int:
  """From '4(x2),1': two nodes of four tasks, one of one."""
  counts: list[int] = []
  listed = environ.get('SLURM_STEP_TASKS_PER_NODE') or environ.get('SLURM_TASKS_PER_NODE') or ''
  for tasks, times in re.findall(r'(\d+)(?:\(x(\d+)\))?', listed):
    counts += [int(tasks)] * int(times or 1)
  node = _number(environ.get('SLURM_NODEID') or '0', 'SLURM_NODEID')
  if node >= len(counts):
    raise ValueError(
      f'SLURM_STEP_TASKS_PER_NODE={listed!r} says nothing of node {node}: start processes with srun'
    )
  return counts[node]


def initialize(
  cluster: Cluster, heartbeat_seconds: int = 100, timeout_seconds: int = 300
) -> Cluster:
  """Meets the other processes; before anything else asks JAX for devices.

  A process on its own returns at once. When one of several dies, JAX ends the others (abort, exit
  code 134) `heartbeat_seconds` later; one that ends waits as long for the others to end, too.
  From here on SIGTERM is JAX's, a handler set before is replaced: whether one of the processes was
  told to stop, and after which step all do, `multihost_utils.reached_preemption_sync_point` says.

  Args:
    cluster: from `find_cluster`.
    heartbeat_seconds: how long a silent process counts as alive.
    timeout_seconds: how long to wait for the others.

  Returns:
    The cluster, with what JAX has found out.

  Raises:
    ValueError: a time is not positive.
    RuntimeError: nobody answers at the coordinator's address, its port is taken, or JAX cannot find
      the other processes, or has been used already.
  """
  if heartbeat_seconds < 1 or timeout_seconds < 1:
    raise ValueError(
      'initialize: heartbeat_seconds and timeout_seconds must be positive, got '
      f'{heartbeat_seconds} and {timeout_seconds}'
    )
  if cluster.source != 'tpu' and cluster.processes == 1:
    return cluster
  if jax.distributed.is_initialized():
    raise RuntimeError('initialize: this process has met the others already')
  if cluster.coordinator is not None:
    timeout_seconds = _meet(cluster, timeout_seconds)
  try:
    jax.distributed.initialize(
      cluster.coordinator,
      None if cluster.source == 'tpu' else cluster.processes,
      None if cluster.source == 'tpu' else cluster.process,
      local_device_ids=cluster.local_devices,
      # All is known: JAX would only find SLURM again, and take one GPU.
      cluster_detection_method=None if cluster.source == 'tpu' else 'deactivate',
      initialization_timeout=timeout_seconds,
      heartbeat_timeout_seconds=heartbeat_seconds,
      shutdown_timeout_seconds=heartbeat_seconds,
    )
  except (RuntimeError, ValueError) as error:
    reason = ' '.join(str(error).split())
    raise RuntimeError(
      f'process {cluster.process} ({cluster.source}) could not join the others: {reason}'
    ) from error
  return dataclasses.replace(cluster, processes=jax.process_count(), process=jax.process_index())


def _meet(cluster: Cluster, timeout_seconds: int) -> int:
  """Waits until the coordinator listens; JAX itself would abort the process if it never does.

  Returns:
    Seconds left to wait for the others.
  """
  host, port = _host_and_port(cluster.coordinator or '')
  if cluster.process == 0:
    _check_port(port)
    return timeout_seconds
  end = time.monotonic() + timeout_seconds
  while True:
    left = end - time.monotonic()
    try:
      with socket.create_connection((host, port), timeout=max(left, 0.1)):
        return max(1, round(left))
    except OSError as error:
      if left <= 0:
        raise RuntimeError(
          f'process {cluster.process} of {cluster.processes}: nobody answers at the coordinator, '
          f'{cluster.coordinator}, after {timeout_seconds} s ({error}); is process 0 running, and '
          'may this machine reach that port?'
        ) from error
    time.sleep(min(0.5, max(left, 0.0)))


def _check_port(port: int) -> None:
  """gRPC lets two servers share a port, and processes would meet at random."""
  with socket.socket() as taken:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      taken.bind(('', port))
    except OSError as error:
      raise RuntimeError(
        f'process 0: port {port} of the coordinator is taken here ({error}); choose another one'
      ) from error


def _host_and_port(address: str) -> tuple[str, int]:
  found = re.fullmatch(r'(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})', address)
  if not found or not 0 < int(found[2]) < 2**16:
    raise ValueError(f'coordinator: HOST:PORT, as in node1:{PORT}, got {address!r}')
  return found[1].strip('[]'), int(found[2])


def _number(text: str, name: str) -> int:
  if not re.fullmatch(r'\d{1,9}', text):
    raise ValueError(f'{name}: a number from 0, got {text!r}')
  return int(text)
