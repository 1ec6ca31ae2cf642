"""How processes find each other; that they do is shown in tests/launch/test_multiprocess.py."""

import os
import re
import socket
import subprocess
import sys

import pytest
from jax._src.clusters.slurm_cluster import SlurmCluster

from sa0_jax.train.cluster import Cluster, find_cluster, initialize
from tests.structure.sources import ROOT

SLURM = {
  'SLURM_JOB_ID': '123456',
  'SLURM_STEP_NODELIST': 'gpu[07-09,12],login1',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
  'SLURM_NODEID': '2',
  'SLURM_STEP_TASKS_PER_NODE': '1(x4)',
}
JOBSET = {
  'JOBSET_NAME': 'paper',
  'REPLICATED_JOB_NAME': 'worker',
  'JOBSET_PROCESSES': '4',
  'JOB_COMPLETION_INDEX': '3',
}
MANUAL = {'SA0_COORDINATOR': 'node1:1234', 'SA0_PROCESSES': '4', 'SA0_PROCESS': '1'}


def test_a_process_is_on_its_own_where_nothing_is_said():
  assert find_cluster({}) == Cluster(None, 1, 0, 'none')
  # A pod of an indexed job, a shell within a job of SLURM, a step of one task.
  assert find_cluster({'JOB_COMPLETION_INDEX': '3'}) == Cluster()
  batch = {k: v for k, v in SLURM.items() if k != 'SLURM_STEP_NODELIST'}
  assert find_cluster(batch) == Cluster()
  assert find_cluster(SLURM | {'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}) == Cluster()


def test_flags_come_before_variables_and_both_before_launchers():
  assert find_cluster(MANUAL) == Cluster('node1:1234', 4, 1, 'manual')
  assert find_cluster({}, '[::1]:99', 2, 0) == Cluster('[::1]:99', 2, 0, 'manual')
  found = find_cluster(MANUAL | SLURM | JOBSET, process=3)
  assert found == Cluster('node1:1234', 4, 3, 'manual')
  assert find_cluster({}, processes=1, process=0) == Cluster(None, 1, 0, 'manual')


@pytest.mark.parametrize(
  ('changed', 'told'),
  [
    ({'SA0_COORDINATOR': ''}, '--coordinator (or SA0_COORDINATOR) is missing'),
    ({'SA0_PROCESS': ''}, '--process (or SA0_PROCESS) is missing'),
    ({'SA0_PROCESSES': ''}, '--processes (or SA0_PROCESSES) is missing'),
    ({'SA0_PROCESSES': 'two'}, "--processes: a number from 0, got 'two'"),
    ({'SA0_PROCESSES': '0'}, 'process 1 of 0'),
    ({'SA0_PROCESS': '4'}, 'numbered 0 to 3'),
    ({'SA0_PROCESS': '-1'}, "--process: a number from 0, got '-1'"),
    ({'SA0_COORDINATOR': 'node1'}, "HOST:PORT, as in node1:8476, got 'node1'"),
    ({'SA0_COORDINATOR': 'node1:0'}, 'HOST:PORT'),
    ({'SA0_COORDINATOR': 'node1:70000'}, 'HOST:PORT'),
    ({'SA0_COORDINATOR': 'http://node1:80'}, 'HOST:PORT'),
  ],
)
def test_what_is_wrong_is_told_in_one_line(changed, told):
  with pytest.raises(ValueError, match=re.escape(told)) as error:
    find_cluster(MANUAL | changed)
  assert '\n' not in str(error.value)


def test_numbers_of_flags_are_checked_like_those_of_variables():
  with pytest.raises(ValueError, match="--process: a number from 0, got '-1'"):
    find_cluster({}, 'node1:1', 2, -1)


@pytest.mark.parametrize(
  ('nodes', 'first'),
  [
    ('node1', 'node1'),
    ('node001,host2', 'node001'),
    ('node[001-0015],host2', 'node001'),
    ('node[007,009-015]', 'node007'),
    ('a-b.example.org', 'a-b.example.org'),
  ],
)
def test_slurm_is_read_as_jax_reads_it(nodes, first, monkeypatch):
  environ = SLURM | {'SLURM_STEP_NODELIST': nodes}
  found = find_cluster(environ)
  for name, value in environ.items():
    monkeypatch.setenv(name, value)
  assert SlurmCluster.is_env_present()
  assert found.coordinator == SlurmCluster.get_coordinator_address(None, None)
  assert found.coordinator.startswith(f'{first}:')
  assert (found.processes, found.process, found.source) == (4, 2, 'slurm')


def test_hosts_of_slurm_may_go_on_behind_their_numbers():
  found = find_cluster(SLURM | {'SLURM_STEP_NODELIST': 'n[1-4]-ib,m1'})
  assert found.coordinator == 'n1-ib:62016'
  with pytest.raises(ValueError, match='no host in'):
    find_cluster(SLURM | {'SLURM_STEP_NODELIST': '[1-4]'})


@pytest.mark.parametrize(
  ('tasks', 'node', 'local', 'visible', 'devices'),
  [
    ('1(x4)', 2, 0, '0,1,2,3', None),  # a node for itself: all its GPUs
    ('2(x2)', 1, 1, '0,1', (1,)),  # one each
    ('2(x2)', 1, 1, '0,1,2,3', (2, 3)),
    ('2(x2)', 1, 1, '5', None),  # SLURM has given it its own
    ('2(x2)', 1, 1, '', (1,)),  # nobody says how many there are: as JAX does
    ('3,1', 1, 0, '0,1', None),
    ('3,1', 0, 2, '0,1,2', (2,)),
  ],
)
def test_tasks_of_a_node_share_its_gpus(tasks, node, local, visible, devices):
  environ = SLURM | {
    'SLURM_STEP_TASKS_PER_NODE': tasks,
    'SLURM_NODEID': str(node),
    'SLURM_LOCALID': str(local),
    'CUDA_VISIBLE_DEVICES': visible,
  }
  assert find_cluster(environ).local_devices == devices


@pytest.mark.parametrize(
  ('changed', 'told'),
  [
    (
      {'SLURM_STEP_TASKS_PER_NODE': '3', 'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_NODEID': '0'},
      'share',
    ),
    ({'SLURM_NODEID': '4'}, 'nothing of node 4'),
    ({'SLURM_PROCID': '4'}, 'numbered 0 to 3'),
    ({'SLURM_JOB_ID': 'x'}, 'SLURM_JOB_ID'),
  ],
)
def test_a_step_that_makes_no_sense_is_refused(changed, told):
  with pytest.raises(ValueError, match=told):
    find_cluster(SLURM | changed)


def test_a_jobset_is_read_from_its_variables():
  assert find_cluster(JOBSET) == Cluster('paper-worker-0-0.paper:8476', 4, 3, 'gke')
  # As xpk sets them for GPUs.
  xpk = {k: v for k, v in JOBSET.items() if k != 'JOBSET_PROCESSES'}
  xpk |= {'NNODES': '8', 'JAX_COORDINATOR_PORT': '6002'}
  assert find_cluster(xpk) == Cluster('paper-worker-0-0.paper:6002', 8, 3, 'gke')
  with pytest.raises(ValueError, match='JOBSET_PROCESSES'):
    find_cluster({k: v for k, v in JOBSET.items() if k != 'JOBSET_PROCESSES'})


@pytest.mark.parametrize(
  ('environ', 'source'),
  [
    ({'SA0_CLUSTER': 'tpu'}, 'tpu'),
    ({'TPU_WORKER_HOSTNAMES': 'a,b', 'TPU_WORKER_ID': '0', **JOBSET}, 'tpu'),
    ({'TPU_WORKER_HOSTNAMES': 'a', 'TPU_ML_PLATFORM': 'JAX'}, 'none'),
    ({'TPU_PROCESS_ADDRESSES': 'a:1,b:1'}, 'tpu'),
    ({'TPU_WORKER_HOSTNAMES': 'a', 'MEGASCALE_COORDINATOR_ADDRESS': 'a'}, 'tpu'),
    ({'TPU_ML_PLATFORM': 'JAX'}, 'tpu'),
    ({'TPU_ML_PLATFORM': 'JAX', 'TPU_SKIP_MDS_QUERY': '1'}, 'none'),
    ({'TPU_ML_PLATFORM': 'JAX', 'JAX_PLATFORMS': 'cpu'}, 'none'),
    ({'TPU_ML_PLATFORM': 'JAX', 'SA0_CLUSTER': 'none'}, 'none'),
    ({'SA0_CLUSTER': 'none', **SLURM}, 'none'),
  ],
)
def test_tpus_are_left_to_jax(environ, source):
  assert find_cluster(environ) == Cluster(source=source)


def test_a_word_that_is_no_cluster_is_refused():
  with pytest.raises(ValueError, match="'none' or 'tpu', got 'slrum'"):
    find_cluster({'SA0_CLUSTER': 'slrum'})


def test_one_process_meets_nobody():
  for cluster in (Cluster(), Cluster('node1:1', 1, 0, 'manual')):
    assert initialize(cluster) == cluster


def test_times_must_be_positive():
  with pytest.raises(ValueError, match='must be positive'):
    initialize(Cluster(), heartbeat_seconds=0)


@pytest.fixture
def taken():
  """A port that somebody has."""
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    yield server.getsockname()[1]


def test_a_coordinator_that_is_not_there_is_told_in_one_line(taken):
  cluster = Cluster(f'127.0.0.1:{taken}', 2, 1, 'manual')  # bound, but nobody listens
  with pytest.raises(RuntimeError) as error:
    initialize(cluster, timeout_seconds=1)
  assert f'nobody answers at the coordinator, 127.0.0.1:{taken}, after 1 s' in str(error.value)
  assert '\n' not in str(error.value)


def test_a_port_that_is_taken_is_told_before_processes_meet_at_random(taken):
  with pytest.raises(RuntimeError, match=f'port {taken} of the coordinator is taken'):
    initialize(Cluster(f'127.0.0.1:{taken}', 2, 0, 'manual'))


def test_jax_that_was_used_before_is_told():
  """In a process of its own: this one must stay alone."""
  program = (
    'import jax\n'
    'jax.devices()\n'
    'from sa0_jax.train.cluster import Cluster, initialize\n'
    'try:\n'
    '  initialize(Cluster("127.0.0.1:1", 2, 0, "manual"))\n'
    'except RuntimeError as error:\n'
    '  print(error)\n'
  )
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  done = subprocess.run(
    [sys.executable, '-c', program.replace(':1"', f':{port}"')],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.startswith('process 0 (manual) could not join the others: ')
  assert done.stdout.count('\n') == 1
