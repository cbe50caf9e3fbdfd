"""Labels on the nodes of a Slurm cluster: `[run] executor = "parsl"`, `parsl = "parsl-slurm.py"`.

Up to four jobs of one node, as many as there are labels for; each ends when none is left. The
virtual environment must lie where the nodes see it. `[run] workers` is the number of labels at a
time: here 4 x 16 = 64.
"""

import parsl
from parsl.launchers import SingleNodeLauncher
from parsl.providers import SlurmProvider

config = parsl.Config(
    executors=[
        parsl.HighThroughputExecutor(
            label="slurm",
            encrypted=True,
            max_workers_per_node=16,  # labels at a time on a node
            provider=SlurmProvider(
                partition="short",
                walltime="04:00:00",
                nodes_per_block=1,
                cores_per_node=16,
                init_blocks=1,
                min_blocks=0,
                max_blocks=4,
                exclusive=False,
                worker_init="export OMP_NUM_THREADS=1",  # and what loads the engine's modules
                scheduler_options="",  # more lines of #SBATCH: an account, a constraint
                launcher=SingleNodeLauncher(),
            ),
        )
    ],
    max_idletime=120.0,  # seconds after which a node without labels is given back
)
